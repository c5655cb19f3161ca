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

// All outputs of the graph, by name. Each intermediate tensor lives
// until its last use.
std::map<std::string, Tensor> interpret(const Graph& graph, Bindings bindings,
                                        ThreadPool* threads = nullptr);

}  // namespace ng
