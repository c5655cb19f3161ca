// How does a graph look as text for plugins that take MLIR alone?
#pragma once

#include <string>

#include "ir/graph.h"

namespace ng {

// StableHLO in MLIR's generic form, the one grammar that has stayed through its versions: the
// parameters and outputs of emit_hlo() in its order, states as tf.aliasing_output of their
// arguments, top_k as a stable sort. Deterministic; constants by their bits. A graph that
// objection() objects to: Internal.
std::string emit_stablehlo(const Graph& graph);

}  // namespace ng
