// In which type does a target keep matrices, and in which layout?
#include "base/error.h"
#include "ir/build.h"
#include "passes/passes.h"

namespace ng {
namespace {

// Which input of a node is a matrix of weights: its index, or -1.
int matrix_input(const Node& node) {
  if (node.op == Op::linear || node.op == Op::project_top_k) return 1;
  if (node.op == Op::embed) return 2;
  return -1;
}

template <class Change>
Graph change_matrices(const Graph& graph, Change change) {
  return rewrite(graph, [&](Graph& out, const Node& node) -> std::vector<Value> {
    const int at = matrix_input(node);
    if (at < 0) return {};
    Node changed = node;
    Value& matrix = changed.inputs[static_cast<size_t>(at)];
    matrix = change(out, matrix);
    const Value first = add_inferred(out, std::move(changed));
    std::vector<Value> results;
    for (uint8_t i = 0; i < node.types.size(); ++i) results.push_back({first.node, i});
    return results;
  });
}

}  // namespace

Graph precision(const Graph& graph, DType dtype) {
  NG_CHECK(dtype == DType::f32 || dtype == DType::bf16, "precision {}", name(dtype));
  if (dtype == DType::f32) return graph;
  return change_matrices(graph,
                         [&](Graph& out, Value matrix) { return convert(out, matrix, dtype); });
}

Graph pack_matrices(const Graph& graph) {
  return change_matrices(graph, [](Graph& out, Value matrix) {
    return out.type(matrix).rank() == 2 ? pack(out, matrix) : matrix;
  });
}

}  // namespace ng
