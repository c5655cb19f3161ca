#include "compile/segments.h"

#include <algorithm>

#include "backends/neuron/support.h"
#include "base/error.h"
#include "compile/module_cost.h"

namespace ng {
namespace {

// A module before it is cut.
struct Draft {
  PlannedModule plan;
  LoweringOptions lowering;  // of segments for the device
  Split whole;
  Graph phase;                   // fused
  std::vector<std::string> why;  // a node runs on the CPU; "": it does not
};

// The first objection of any target to any node of a legal graph.
std::string objection_to(const Graph& graph, const std::set<std::string>& targets) {
  for (const std::string& target : targets) {
    for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
      if (row(graph.nodes()[at].op).kind == OpKind::leaf) continue;
      std::string found = objection(target, graph, at);
      if (!found.empty()) return found;
    }
  }
  return "";
}

// `ops` gets the names of those that there are.
Draft draft_of(const Model& model, const PlannedModule& plan, const StaticOptions& options,
               const std::set<std::string>& targets, std::set<std::string>& ops) {
  Draft draft{plan,
              lowering_of(model, plan, options),
              lower_module(model, plan, options),
              fuse(without_taps(phase_of(model, plan, options), options.with_logits)),
              {}};
  draft.lowering.fused = false;
  const bool taken = objection_to(draft.whole.phase, targets).empty();
  const std::vector<bool> runs = run_nodes(draft.phase);
  for (uint32_t at = 0; at < runs.size(); ++at) {
    std::string& why = draft.why.emplace_back();
    const std::string name(row(draft.phase.nodes()[at].op).name);
    if (!runs[at]) continue;
    ops.insert(name);
    if (options.cpu_ops.contains(name)) {
      why = "--cpu-ops";
    } else if (!taken) {
      why = objection_to(lower(alone(draft.phase, at), draft.lowering).phase, targets);
    }
  }
  return draft;
}

// One side keeps the states of all modules. The CPU's are in place: none is put in order.
void keep_states_together(std::vector<Draft>& drafts, bool reorder) {
  std::vector<std::string*> users;
  for (Draft& draft : drafts) {
    for (uint32_t at = 0; at < draft.why.size(); ++at) {
      if (uses_state(draft.phase, at)) users.push_back(&draft.why[at]);
    }
  }
  if (std::ranges::all_of(users, [](const std::string* why) { return why->empty(); })) return;
  check(
      !reorder,
      "--beam-caches reorder is not for modules that --cpu-ops cuts where states are used (attend, "
      "write_rows): leave these to the device, or compile with --beam-caches history");
  for (std::string* why : users) {
    if (why->empty()) *why = "states are the CPU's";
  }
}

ModuleSegment lowered(const Draft& draft, const Segment& segment, size_t number) {
  LoweringOptions lowering = draft.lowering;
  Split split = lower(segment.graph, lowering);
  ModuleSegment made{segment, draft.plan, draft.plan.name, split, split.phase};
  if (made.cpu) {
    lowering.packed = true;
    lowering.shape.reset();
    made.split = lower(segment.graph, lowering);
    made.split.phase = exact_sizes(made.split.phase);
  }
  made.plan.name += fmt::format(".{}", number);
  made.lowered.name = made.split.phase.name = made.plan.name;
  return made;
}

void cut(const Draft& draft, const StaticOptions& options, std::vector<ModuleSegment>& found) {
  if (std::ranges::all_of(draft.why, &std::string::empty)) {
    found.push_back({Segment{}, draft.plan, draft.plan.name, draft.whole, draft.whole.phase});
    return;
  }
  const auto why = std::ranges::find_if(draft.why, [](const auto& one) { return !one.empty(); });
  check(options.ranks == 1, "--tp {}: module {} would be cut ({}): ranks run whole modules alone",
        options.ranks, draft.plan.name, *why);
  const std::vector<Segment> segments = partition(draft.phase, draft.why);
  const int64_t most = options.max_subgraph_count;
  check(most == 0 || std::ssize(segments) <= most,
        "--max-subgraph-count {}: module {} has {} segments", most, draft.plan.name,
        segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    int64_t size = 0;
    for (const auto& [op, count] : segments[i].ops) size += count;
    check(size >= options.min_subgraph_size, "--min-subgraph-size {}: segment {}.{} has {} ops",
          options.min_subgraph_size, draft.plan.name, i + 1, size);
    found.push_back(lowered(draft, segments[i], i + 1));
  }
}

}  // namespace

std::vector<ModuleSegment> segment_modules(const Model& model, const StaticOptions& options,
                                           const std::set<std::string>& targets) {
  std::vector<Draft> drafts;
  std::set<std::string> ops;
  for (const PlannedModule& plan : plan_modules(options)) {
    drafts.push_back(draft_of(model, plan, options, targets, ops));
  }
  for (const std::string& op : options.cpu_ops) {
    check(ops.contains(op), "--cpu-ops {}: the modules' ops are {}", shown(op),
          fmt::join(ops, ", "));
  }
  keep_states_together(drafts, options.reorder);
  std::vector<ModuleSegment> segments;
  for (const Draft& draft : drafts) cut(draft, options, segments);
  return segments;
}

std::string describe(const ModuleSegment& segment) {
  std::string ops;
  for (const auto& [op, count] : segment.ops) ops += fmt::format(" {} {},", count, op);
  return fmt::format("{} on the CPU:{} since {}; a run moves {} bytes and takes {} FLOP",
                     segment.plan.name, ops, fmt::join(segment.reasons, ", "),
                     segment.boundary_bytes, cost_of(segment.lowered).flops);
}

}  // namespace ng
