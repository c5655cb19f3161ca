#include "compile/analyze.h"

#include <algorithm>
#include <tuple>

#include "backends/neuron/support.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "ir/build.h"
#include "ir/text.h"

namespace ng {
namespace {

std::string types_of(const std::vector<Type>& types) {
  std::vector<std::string> texts;
  for (const Type& type : types) texts.push_back(to_string(type));
  return fmt::format("{}", fmt::join(texts, ", "));
}

// The node alone, of inputs 0, 1, …
Graph alone(const Graph& graph, const Node& node) {
  Graph made("op");
  Node copy = node;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    copy.inputs[i] = input(made, std::to_string(i), graph.type(node.inputs[i]));
  }
  made.outputs.push_back({"out", made.add(std::move(copy))});
  return made;
}

Fallback fallback_of(const Graph& graph, const Node& node, std::string reason) {
  std::vector<Type> from;
  for (const Value& value : node.inputs) from.push_back(graph.type(value));
  const std::string kind(row(node.op).name);
  return {kind,
          std::move(reason),
          fmt::format("{}({}) : {}", kind, types_of(from), types_of(node.types)),
          print(alone(graph, node)),
          0,
          {}};
}

class Analyzer {
 public:
  Analyzer(const Model& model, const StaticOptions& options, const NeuronTarget& target)
      : model_(model), options_(options) {
    all_.target = &target;
  }
  Analysis run();

 private:
  void add_support(const ModuleSegment& segment, ModuleAnalysis& module);
  void add_fallback(const Fallback& found, const std::string& module);
  void add_composites(const PlannedModule& plan);
  void add_module(const ModuleSegment& segment, const ModuleSegment& with_histories);

  const Model& model_;
  const StaticOptions& options_;
  Analysis all_;
  std::vector<CompileJob> jobs_;
};

void Analyzer::add_fallback(const Fallback& found, const std::string& module) {
  const auto key = [](const Fallback& of) { return std::tie(of.kind, of.reason, of.call); };
  auto& list = all_.fallbacks;
  auto place = std::lower_bound(list.begin(), list.end(), found,
                                [&](const auto& a, const auto& b) { return key(a) < key(b); });
  if (place == list.end() || key(*place) != key(found)) place = list.insert(place, found);
  ++place->count;
  if (place->modules.empty() || place->modules.back() != module) place->modules.push_back(module);
}

void Analyzer::add_support(const ModuleSegment& segment, ModuleAnalysis& module) {
  const Graph& graph = segment.lowered;
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const Node& node = graph.nodes()[at];
    if (row(node.op).kind == OpKind::leaf) continue;
    std::string reason = objection(all_.target->name, graph, at);
    if (!segment.cpu) {
      ++module.supported;
      ++all_.supported[std::string(row(node.op).name)];
    }
    if (!reason.empty()) {
      add_fallback(fallback_of(graph, node, std::move(reason)), segment.part_of);
    }
  }
}

void Analyzer::add_composites(const PlannedModule& plan) {
  const Graph phase = phase_of(model_, plan, options_);
  const std::vector<bool> live = live_nodes(phase);
  for (uint32_t at = 0; at < live.size(); ++at) {
    const OpRow& op = row(phase.nodes()[at].op);
    if (live[at] && op.kind == OpKind::composite) ++all_.decomposed[std::string(op.name)];
  }
}

void Analyzer::add_module(const ModuleSegment& segment, const ModuleSegment& with_histories) {
  const PlannedModule& plan = segment.plan;
  const Graph& graph = segment.lowered;
  ModuleAnalysis module;
  module.plan = plan;
  module.cost = cost_of(graph);
  const bool steps = plan.phase == "decode" || plan.phase == "logits";
  module.cost.past = {};  // a prefill follows no choice of beams
  if (steps) module.cost.past = cost_of(with_histories.lowered).past;
  add_support(segment, module);
  if (segment.cpu) {
    all_.on_cpu.push_back(segment);
    return;
  }
  all_.memory.add(graph, module.cost);
  const NeuronTarget& target = *all_.target;
  module.hbm_seconds =
      static_cast<double>(module.cost.read_bytes) / target.share(target.hbm_bytes_per_second);
  module.compute_seconds =
      static_cast<double>(module.cost.flops) / target.share(target.flops_per_second);
  jobs_.push_back({plan.name, emit_hlo(graph, HloDialect::neuron), NeuronPhase::encode});
  module.hlo_bytes = static_cast<int64_t>(jobs_.back().hlo.size());
  all_.modules.push_back(std::move(module));
}

Analysis Analyzer::run() {
  const std::set<std::string> target = {std::string(all_.target->name)};
  for (const PlannedModule& plan : plan_modules(options_)) add_composites(plan);
  StaticOptions histories = options_;
  histories.reorder = false;
  const auto segments = segment_modules(model_, options_, target);
  const auto past = options_.reorder ? segment_modules(model_, histories, target) : segments;
  NG_CHECK(past.size() == segments.size(), "{} segments with histories", past.size());
  for (size_t i = 0; i < segments.size(); ++i) add_module(segments[i], past[i]);
  all_.compilation = estimate_compilation(jobs_, 1);
  return std::move(all_);
}

Json json_of(const ModuleAnalysis& module) {
  const ModuleCost& cost = module.cost;
  Json json = {{"name", module.plan.name},
               {"phase", module.plan.phase},
               {"sentences", module.plan.sentences},
               {"rows", module.plan.rows},
               {"supported", module.supported},
               {"hlo_bytes", module.hlo_bytes},
               {"flops", cost.flops},
               {"weight_bytes", cost.weight_bytes},
               {"state_bytes", cost.state_bytes},
               {"io_bytes", cost.io_bytes},
               {"temporary_bytes", cost.temporary_bytes},
               {"hbm_read_bytes", cost.read_bytes},
               {"hbm_seconds", module.hbm_seconds},
               {"compute_seconds", module.compute_seconds}};
  if (cost.past.history_bytes > 0) {
    json["beam_history"] = {{"bytes_per_step", cost.past.history_bytes},
                            {"copies_per_step", cost.past.history_copies}};
    json["beam_reorder"] = {{"bytes_per_step", cost.past.reorder_bytes},
                            {"copies_per_step", cost.past.reorder_copies}};
  }
  return json;
}

Json memory_of(const Analysis& analysis) {
  const NeuronTarget& target = *analysis.target;
  const auto hbm = static_cast<int64_t>(target.share(target.hbm_bytes));
  const DeviceMemory& memory = analysis.memory;
  return {{"weight_bytes", memory.weight_bytes}, {"state_bytes", memory.state_bytes},
          {"io_bytes", memory.io_bytes},         {"temporary_bytes", memory.temporary_bytes},
          {"runtime_bytes", kRuntimeBytes},      {"core_bytes", memory.core_bytes()},
          {"hbm_bytes_per_core", hbm},           {"fits", memory.core_bytes() <= hbm}};
}

}  // namespace

double Analysis::support_percentage() const {
  int64_t taken = 0, refused = 0;
  for (const ModuleAnalysis& module : modules) taken += module.supported;
  for (const ModuleSegment& segment : on_cpu) {
    for (const Node& node : segment.lowered.nodes()) {
      refused += row(node.op).kind != OpKind::leaf ? 1 : 0;
    }
  }
  return taken + refused == 0
             ? 100.0
             : 100.0 * static_cast<double>(taken) / static_cast<double>(taken + refused);
}

Analysis analyze(const Model& model, const StaticOptions& options, const NeuronTarget& target) {
  return Analyzer(model, options, target).run();
}

Json to_json(const Analysis& analysis) {
  Json json = {{"neuronx_cc_version", kSupportVersion},
               {"support_percentage", fmt::format("{:.2f}%", analysis.support_percentage())},
               {"supported_operators", analysis.supported},
               {"unsupported_operators", Json::array()},
               {"decomposed_operators", analysis.decomposed},
               {"target", analysis.target->name},
               {"memory", memory_of(analysis)},
               {"compile_minutes", analysis.compilation.minutes},
               {"compile_memory_bytes", analysis.compilation.memory}};
  for (const Fallback& found : analysis.fallbacks) {
    json["unsupported_operators"].push_back({{"kind", found.kind},
                                             {"failureAt", "neuronx-cc"},
                                             {"call", found.call},
                                             {"opGraph", found.graph},
                                             {"reason", found.reason},
                                             {"count", found.count},
                                             {"modules", found.modules}});
  }
  for (const ModuleAnalysis& module : analysis.modules) json["modules"].push_back(json_of(module));
  for (const ModuleSegment& segment : analysis.on_cpu) {
    json["cpu_segments"].push_back({{"name", segment.plan.name},
                                    {"ops", segment.ops},
                                    {"reasons", segment.reasons},
                                    {"boundary_bytes", segment.boundary_bytes},
                                    {"flops", cost_of(segment.lowered).flops}});
  }
  return json;
}

}  // namespace ng
