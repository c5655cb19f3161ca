// What composites mean in terms of primitives: their definition.
#pragma once

#include "ir/graph.h"

namespace ng {

// Adds the definition of the composite `node` (whose inputs are values of `out`) and gives one
// value per result. Packed matrices are unpacked first, bf16 ones converted.
std::vector<Value> decompose(Graph& out, const Node& node);

// P of embed (docs/ops.md): rows [n, width] of the sinusoidal table for `positions` s32[n] over
// `frequencies` f32[width / 2]; zeros where the position is `padding` (-1: nowhere).
Value sinusoids(Graph& g, Value positions, Value frequencies, int64_t width, int64_t padding);

}  // namespace ng
