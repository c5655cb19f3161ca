// How does a graph of primitives become an HloModuleProto?
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ir/graph.h"

namespace ng::tracer {

// What is wrong on purpose in a module, so that a test can see it caught.
enum class Fault { None, SwappedAlias, MaskOffByOne };

struct HloProgram {
  std::string bytes;
  std::vector<Named> inputs;                       // parameters 0 …, in the graph's order
  std::vector<std::string> weights;                // the parameters after them
  std::vector<Named> outputs;                      // leaves of the root tuple
  std::vector<std::pair<size_t, size_t>> aliases;  // output, parameter: as the module says
};

// `graph` holds leaves and primitives only; every count is taken at its capacity. A state (an input
// and an output of one name) is aliased. Taps (decoder.N) are left out. The values in the result
// are the graph's.
HloProgram emit_hlo(const Graph& graph, Fault fault);

}  // namespace ng::tracer
