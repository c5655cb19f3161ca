// The meaning of a graph, written for reading. It keeps the summation orders of docs/numerics.md,
// so its bytes are the CPU backend's; it is the oracle of every test and the evaluator of
// constants.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/thread_pool.h"
#include "ir/graph.h"

namespace ng {

// The results of one node on exact inputs (their types carry no counts). `counts` says what the
// node's own counted dimensions are. Inputs may be unaligned. `threads` may be null. input and
// weight nodes have no meaning of their own: Internal.
std::vector<Tensor> evaluate(const Node& node, std::span<const Tensor> inputs, const Counts& counts,
                             ThreadPool* threads = nullptr);

struct Bindings {
  std::map<std::string, Tensor> inputs;
  std::function<Tensor(const std::string& name)> weight;
  Counts counts;  // what no input binds: candidates
};

// Element by element, in the order of ranks: what all_reduce, which is evaluated for all ranks
// together, gives each.
Tensor sum_of_ranks(std::span<const Tensor> parts);
int64_t ranks_of(const Graph& graph);  // that an all_reduce sums; else 1

// All outputs of the graph, by name. Each intermediate tensor lives until its last use. A graph of
// several ranks runs for all of them, node by node: an input is the same for all or has theirs one
// after the other along its first axis, as every output has; a weight is asked for as
// rank_name().
std::map<std::string, Tensor> interpret(const Graph& graph, Bindings bindings,
                                        ThreadPool* threads = nullptr);

}  // namespace ng
