// Graphs as text: what bundles store, `inspect --graph` prints and tests are written in.
//
//   graph decode
//   %0 = input() name="tokens" : s32[rows<=4096]
//   %7 = linear(%5, %3, %4) activation=relu : f32[rows<=4096,1024]
//   %9 = top_k(%8) : f32[rows<=4096,candidates<=256], s32[rows<=4096,candidates<=256]
//   output "scores" = %9
//   output "ids" = %9.1
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace ng {

// One node a line; attributes that have their default are left out. Floats are printed so that they
// read back to the same bits. parse(print(g)) equals g: the same nodes in the same order.
std::string print(const Graph& graph);

// Bounded and hostile-proof: errors (User) name `what`, the line and the column. The result is
// verified.
Graph parse_graph(std::string_view text, std::string_view what);

}  // namespace ng
