// What is left of a phase for a target whose shapes are static?
#include <algorithm>

#include "base/error.h"
#include "ir/decompose.h"
#include "ir/replaced.h"
#include "passes/legalize_parts.h"

namespace ng {
namespace {

std::vector<Value> results_of(Value first, size_t count) {
  std::vector<Value> results;
  for (size_t i = 0; i < count; ++i) results.push_back({first.node, static_cast<uint8_t>(i)});
  return results;
}

// Counts become sizes, caches take the type that products want, regions the order of the beams.
std::vector<Value> exact(Graph& out, const Node& node, DType cache, int64_t regions) {
  const Arithmetic a{out};
  Node made = node;
  for (Type& type : made.types) {
    for (Dim& dim : type.shape) dim.count = Count::none;
  }
  if (is_cache(node)) made.types[0].dtype = cache;
  if (node.op == Op::write_rows) {
    made.types[0].dtype = cache;
    made.inputs[1] = a.as(made.inputs[1], cache);
    const bool beams = node.types[0].shape[0].count == Count::cache && out.name != "prefill";
    if (beams && regions > 0) {
      made.inputs[0] = listed_runs(out, made.inputs[0], regions, "parent", regions);
    }
  }
  return results_of(out.add(std::move(made)), node.types.size());
}

// x · matrix^T in the matrix's type.
Value product(const Arithmetic& a, Value x, Value matrix) {
  return dot(a.g, a.as(x, a.g.type(matrix).dtype), matrix);
}

Value embedded(const Arithmetic& a, const Node& node) {
  const Value x = a.as(gather_rows(a.g, node.inputs[2], node.inputs[0]), DType::f32);
  const Value position = gather_rows(a.g, node.inputs[3], node.inputs[1]);
  return a.op(Op::add, a.op(Op::multiply, x, node.attrs.scale), position);
}

Value linear_exactly(const Arithmetic& a, const Node& node) {
  Value y = product(a, node.inputs[0], node.inputs[1]);
  if (node.inputs.size() > 2) {
    y = a.op(Op::add, y, broadcast(a.g, node.inputs[2], node.types[0].shape, {1}));
  }
  if (node.attrs.activation != ActivationKind::none) y = activate(a.g, y, node.attrs.activation);
  return node.inputs.size() > 3 ? a.op(Op::add, y, node.inputs[3]) : y;
}

std::vector<Value> project(const Arithmetic& a, const Node& node) {
  const Value logits = product(a, node.inputs[0], node.inputs[1]);
  const Best best = best_of_rows(a, logits, node.types[0].size(1));
  return {best.scores, best.ids, log_sum_exp(a.g, logits)};
}

// top_k of rows that a device does not take.
bool is_wide(const Graph& graph, const Node& node) {
  if (node.op != Op::top_k) return false;
  const int64_t width = graph.type(node.inputs[0]).size(1);
  return width > kTopKWidth || width % kTopKMultiple != 0;
}

bool is_legal(const Graph& graph, const Node& node) {
  return row(node.op).kind != OpKind::composite && !is_wide(graph, node);
}

std::vector<Value> in_primitives(Graph& out, const Node& node, const StaticShape& shape) {
  const Arithmetic a{out};
  if (is_legal(out, node)) return {};
  if (node.op == Op::top_k) {
    const Best best = best_of_rows(a, node.inputs[0], node.types[0].size(1));
    return {best.scores, best.ids};
  }
  if (node.op == Op::embed) return {embedded(a, node)};
  if (node.op == Op::linear) return {linear_exactly(a, node)};
  if (node.op == Op::project_top_k) return project(a, node);
  if (node.op == Op::attend) return {attend_exactly(a, node, shape)};
  return decompose(out, node);
}

// A broadcast repeats no axis of size 1: that is reshaped away first.
std::vector<Value> plain_broadcast(Graph& out, const Node& node) {
  const Type from = out.type(node.inputs[0]);
  Shape kept;
  std::vector<int64_t> dims;
  for (size_t i = 0; i < from.shape.size(); ++i) {
    const int64_t axis = node.attrs.dims[i];
    if (from.shape[i] != node.types[0].shape[static_cast<size_t>(axis)]) continue;
    kept.push_back(from.shape[i]);
    dims.push_back(axis);
  }
  if (kept.size() == from.shape.size()) return {};
  return {broadcast(out, reshape(out, node.inputs[0], kept), node.types[0].shape, dims)};
}

// An index into `rows` rows: a device may fault where the op clamps or skips.
Value clamped(Graph& out, Value index, int64_t rows) {
  const Arithmetic a{out};
  return a.op(Op::minimum, a.op(Op::maximum, index, 0.0), static_cast<double>(rows - 1));
}

std::vector<Value> normal(Graph& out, const Node& node) {
  const auto rows = [&] { return out.type(node.inputs[0]).size(0); };
  if (node.op == Op::broadcast) return plain_broadcast(out, node);
  if (node.op == Op::gather_rows) {
    return {gather_rows(out, node.inputs[0], clamped(out, node.inputs[1], rows()))};
  }
  if (node.op == Op::write_rows) {
    return {write_rows(out, node.inputs[0], node.inputs[1], clamped(out, node.inputs[2], rows()))};
  }
  return {};
}

// Inputs that nothing reads go, too.
Graph needed(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  Graph out(graph.name);
  std::vector<Value> moved(live.size());
  for (uint32_t at = 0; at < live.size(); ++at) {
    if (!live[at]) continue;
    Node node = graph.nodes()[at];
    for (Value& value : node.inputs) value.node = moved[value.node].node;
    moved[at] = out.add(std::move(node));
  }
  for (const Named& output : graph.outputs) {
    out.outputs.push_back({output.name, {moved[output.value.node].node, output.value.result}});
  }
  return out;
}

Graph exact_with(const Graph& graph, DType cache, int64_t regions) {
  return rewrite(graph,
                 [&](Graph& out, const Node& node) { return exact(out, node, cache, regions); });
}

}  // namespace

bool is_cache(const Node& node) {
  if (node.op != Op::input || node.types[0].rank() != 2) return false;
  const Count count = node.types[0].shape[0].count;
  return count == Count::cache || count == Count::memory;
}

Graph exact_sizes(const Graph& graph) { return exact_with(graph, DType::f32, 0); }

Graph without_taps(const Graph& graph, bool hidden) {
  Graph out = graph;
  std::erase_if(out.outputs, [&](const Named& output) {
    return output.name.starts_with("encoder.") || output.name.starts_with("decoder.") ||
           (output.name == "hidden" && !hidden);
  });
  return out;
}

Graph legalize(const Graph& phase, const StaticShape& shape) {
  Graph graph = exact_with(phase, shape.compute, shape.regions);
  for (Named& output : graph.outputs) {
    const Node& writer = graph[output.value];
    const bool replaced = writer.op == Op::write_rows && graph[writer.inputs[0]].op != Op::input;
    if (replaced) output.name = next_of(output.name);
  }
  const auto legal = [&](const Node& node) { return is_legal(graph, node); };
  while (!std::all_of(graph.nodes().begin(), graph.nodes().end(), legal)) {
    graph = rewrite(graph,
                    [&](Graph& out, const Node& node) { return in_primitives(out, node, shape); });
  }
  return needed(without_taps(rewrite(graph, normal), shape.hidden));
}

}  // namespace ng
