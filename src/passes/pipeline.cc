// The whole compiler on one screen: which passes run, in which order, for which target.
#include <algorithm>

#include "base/error.h"
#include "ir/verify.h"
#include "passes/passes.h"

namespace ng {
namespace {

struct Stage {
  std::string_view name;
  Graph (*run)(const Graph&, const LoweringOptions&);
};

// fuse comes first: it joins weights while they still are plain leaves. pack comes last: it is a
// layout of whatever matrix the others left. What static targets want comes on top: positions here,
// the rest after the split, since it spreads weights over rows.
constexpr Stage kStages[] = {
    {"fuse", [](const Graph& g, const LoweringOptions& o) { return o.fused ? fuse(g) : g; }},
    {"precision",
     [](const Graph& g, const LoweringOptions& o) { return precision(g, o.weight_dtype); }},
    {"pack",
     [](const Graph& g, const LoweringOptions& o) { return o.packed ? pack_matrices(g) : g; }},
    {"positions",
     [](const Graph& g, const LoweringOptions& o) {
       return o.shape ? tabulate_positions(g, o.shape->positions) : g;
     }},
};

void check_stage(const std::string& name) {
  const auto known = stage_names();
  check(std::find(known.begin(), known.end(), name) != known.end(),
        "there is no pass \"{}\"; the passes are {}", shown(name), fmt::join(known, ", "));
}

}  // namespace

std::vector<std::string_view> stage_names() {
  std::vector<std::string_view> names;
  for (const Stage& stage : kStages) names.push_back(stage.name);
  return names;
}

Split lower(const Graph& graph, const LoweringOptions& options) {
  if (!options.stop_after.empty()) check_stage(options.stop_after);
  for (const std::string& name : options.without) check_stage(name);
  verify(graph);
  Graph g = graph;
  for (const Stage& stage : kStages) {
    const auto& without = options.without;
    if (std::find(without.begin(), without.end(), stage.name) == without.end()) {
      g = stage.run(g, options);
      verify(g);
    }
    if (stage.name == options.stop_after) break;
  }
  Split split = split_static(g);
  if (options.shape && options.stop_after.empty()) {
    split.phase = legalize(split.phase, *options.shape);
    split = contraction_first(split);
  }
  verify(split.phase);
  verify(split.prepare);
  return split;
}

}  // namespace ng
