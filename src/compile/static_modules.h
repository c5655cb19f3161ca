// Which modules does a bundle for a static target hold, and how is each lowered?
#pragma once

#include <set>
#include <string>
#include <vector>

#include "models/model.h"
#include "passes/passes.h"
#include "translate/buckets.h"

namespace ng {

struct StaticOptions {
  std::vector<int64_t> batches = {1, 8};  // sentences of a module; the largest is the slots
  int64_t beams = 4;
  std::vector<int64_t> source_lengths = {32, 64, 128, 256};
  int64_t target_length = 256;
  bool device_candidates = true;  // the device finds the best of a vocabulary, else the host does
  bool with_logits = false;  // modules that give whole rows: for forward, verify and some edits
  bool reorder = false;      // beams are put in order before a step, else read by their histories
  DType dtype = DType::f32;  // of matrices, products' operands and caches
  std::set<std::string> cpu_ops = {};  // ops that run on the CPU, whatever the target takes
  int64_t min_subgraph_size = 0, max_subgraph_count = 0;  // of modules that are cut; 0: any
  int64_t ranks = 1;  // devices that run a module together, each with its part (--tp)
};

// Sorted and without repeats; no batch, length or beam below 1 or above its limit (docs/limits.md):
// User, naming the option.
StaticOptions checked(StaticOptions options);

// Beams, the end ids and as many more as penalties commonly ask for (docs/neuron.md).
StaticSizes static_sizes(const Model& model, const StaticOptions& options);

struct PlannedModule {
  std::string name;   // PHASE-bBATCH-sSOURCE-tTARGET, of ranks with -r0: all run the first one's
  std::string phase;  // one of kPhases
  int64_t sentences = 0, rows = 0;
};

// Encoders over batch × source length; of prefill, decode and, where wanted, logits one a batch.
std::vector<PlannedModule> plan_modules(const StaticOptions& options);

// The phase that the module is made of, before any pass; with ranks, sharded.
Graph phase_of(const Model& model, const PlannedModule& module, const StaticOptions& options);

// What the target wants of the passes for the module.
LoweringOptions lowering_of(const Model& model, const PlannedModule& module,
                            const StaticOptions& options);

// The module's graph, which only lacks its emission, and the graph that makes its weights.
Split lower_module(const Model& model, const PlannedModule& module, const StaticOptions& options);

}  // namespace ng
