// What composites mean in terms of primitives: their definition.
#pragma once

#include "ir/graph.h"

namespace ng {

// Adds the definition of the composite `node` (whose inputs are values of `out`) and gives one
// value per result. Packed matrices are unpacked first, bf16 ones converted.
std::vector<Value> decompose(Graph& out, const Node& node);

// `graph` with every composite replaced, again and again, until only primitives and leaves are
// left.
Graph decompose_all(const Graph& graph);

}  // namespace ng
