// Is a graph well-formed? Run after every pass, in release too.
#pragma once

#include "ir/graph.h"

namespace ng {

// Every rule of docs/ops.md; the first broken one is a User error that names it, because graphs
// also come from files. Besides each op's own rules (ir/build.h):
//   V1 inputs and outputs each have distinct, non-empty names; weights of one name have one type
//   V2 types are what infer() says
//   V3 a state (an input and an output of one name) keeps its type, and its output is written by
//      write_rows that starts from its input; a state input is used by that op alone, so that
//      writing in place is always legal
//   V4 every count a node needs is carried by some input or output
//   V5 values are not unbounded: at most kNodeLimit nodes, 4 axes, 2^40 an axis, 2^62 bytes
void verify(const Graph& graph);

inline constexpr size_t kNodeLimit = 100'000;
bool is_bounded(const Type& type);  // V5

}  // namespace ng
