// What will become of a model on a Neuron target: what runs there, what it takes, how long?
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/neuron/compile_modules.h"
#include "base/json.h"
#include "compile/module_cost.h"
#include "compile/segments.h"

namespace ng {

// Nodes of one kind and one form that the target's compiler does not take: the CPU's part.
struct Fallback {
  std::string kind, reason, call, graph;  // call: the op with its types; graph: it alone, as text
  int64_t count = 0;
  std::vector<std::string> modules;
};

struct ModuleAnalysis {
  PlannedModule plan;  // of a segment of it, by its own name, where it is not whole
  ModuleCost cost;
  int64_t hlo_bytes = 0;
  int64_t supported = 0;  // nodes
  // At the speed of one logical core's memory and products, both of them published peaks. A run
  // takes the longer of the two at least.
  double hbm_seconds = 0, compute_seconds = 0;
};

struct Analysis {
  const NeuronTarget* target = nullptr;
  std::map<std::string, int64_t> supported;   // op → nodes of all modules
  std::map<std::string, int64_t> decomposed;  // composite → nodes, before they were decomposed
  std::vector<Fallback> fallbacks;            // by kind, reason and call
  std::vector<ModuleAnalysis> modules;        // what the device runs
  std::vector<ModuleSegment> on_cpu;          // and what runs between
  DeviceMemory memory;                        // of all that the device runs
  CompileEstimate compilation;                // a module at a time

  double support_percentage() const;  // of nodes
};

// Needs no weights: of a model from describe_model, too.
Analysis analyze(const Model& model, const StaticOptions& options, const NeuronTarget& target);

// With the keys of torch_neuronx.analyze, and ours beside them. The version of this program is the
// caller's to add. neuronx_cc_version is that which the table of support describes.
Json to_json(const Analysis& analysis);

}  // namespace ng
