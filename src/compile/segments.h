// Which parts of the modules run on the device, which on the CPU?
#pragma once

#include <set>
#include <string>
#include <vector>

#include "compile/static_modules.h"

namespace ng {

struct ModuleSegment : Segment {
  PlannedModule plan;   // its name: the module's where that is whole, else MODULE.1, MODULE.2, …
  std::string part_of;  // the module
  Split split;          // for the CPU: exact sizes, but composites and packed matrices
  Graph lowered;        // as the device's compiler would get it
};

// Every module that options ask for, in segments that run in this order. To the CPU go the ops that
// options name and what becomes a node that the target's compiler does not take
// (backends/neuron/support.h), of several targets, which share one list of modules, any compiler;
// one side keeps all states, so with one op that uses a state go all that do. Ops that no module
// has, segments beyond the limits of options, and states on the CPU with reordered beams: User.
std::vector<ModuleSegment> segment_modules(const Model& model, const StaticOptions& options,
                                           const std::set<std::string>& targets);

// A line for people about a segment on the CPU.
std::string describe(const ModuleSegment& segment);

}  // namespace ng
