// What can be computed once, when a model is compiled?
#include <map>

#include "base/error.h"
#include "ir/build.h"
#include "passes/passes.h"

namespace ng {
namespace {

// How a node depends on a run: `constant` not at all, `weights` neither but on the model.
enum class Depends { constant, weights, run };

std::vector<Depends> dependencies(const Graph& graph) {
  std::vector<Depends> depends(graph.nodes().size());
  for (size_t at = 0; at < depends.size(); ++at) {
    const Node& node = graph.nodes()[at];
    depends[at] = node.op == Op::input ? Depends::run : Depends::constant;
    if (node.op == Op::weight || node.op == Op::frequencies) depends[at] = Depends::weights;
    for (const Value& value : node.inputs) {
      depends[at] = std::max(depends[at], depends[value.node]);
    }
    const bool repeats = node.op == Op::broadcast && graph[node.inputs[0]].op == Op::weight;
    if (repeats) depends[at] = Depends::run;  // as many rows as a run has
  }
  return depends;
}

// A name that says how the tensor is made of the checkpoint's.
std::string describe(const Graph& graph, Value value) {
  const Node& node = graph[value];
  if (node.op == Op::weight) return node.attrs.name;
  if (node.op == Op::frequencies) return fmt::format("frequencies.{}", node.types[0].size(0));
  NG_CHECK(!node.inputs.empty(), "{} has no name", row(node.op).name);
  if (node.op == Op::select_less) return fmt::format("positions.{}", node.types[0].size(0));
  const std::string first = describe(graph, node.inputs[0]);
  if (node.op == Op::concatenate) return fmt::format("{}+{}", first, node.inputs.size() - 1);
  if (node.op == Op::convert) return fmt::format("{}.{}", first, name(node.types[0].dtype));
  if (node.op == Op::pack) return first + ".packed";
  if (node.op == Op::transpose) return first + ".transposed";
  return fmt::format("{}.{}", first, row(node.op).name);
}

// Moves `value` and all it depends on into `prepare`.
Value move_static(const Graph& graph, Value value, Graph& prepare, std::map<Value, Value>& moved) {
  if (const auto found = moved.find(value); found != moved.end()) return found->second;
  Node node = graph[value];
  for (Value& from : node.inputs) from = move_static(graph, from, prepare, moved);
  const Value first = prepare.add(std::move(node));
  return moved[value] = Value{first.node, value.result};
}

}  // namespace

Split split_static(const Graph& graph) {
  const std::vector<Depends> depends = dependencies(graph);
  Split split{Graph(graph.name), Graph("prepare")};
  std::map<Value, Value> moved, translated;
  const auto translate = [&](Value value) -> Value {
    if (const auto found = translated.find(value); found != translated.end()) return found->second;
    NG_CHECK(depends[value.node] == Depends::weights, "%{} is used before it stands", value.node);
    const std::string called = describe(graph, value);
    const Value made = move_static(graph, value, split.prepare, moved);
    NG_CHECK(!split.prepare.find_output(called), "two tensors are called {}", called);
    split.prepare.outputs.push_back({called, made});
    return translated[value] = weight(split.phase, called, graph.type(value));
  };
  const std::vector<bool> live = live_nodes(graph);
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    Node node = graph.nodes()[at];
    if (depends[at] == Depends::weights || (!live[at] && node.op != Op::input)) continue;
    for (Value& value : node.inputs) value = translate(value);
    const Value first = split.phase.add(std::move(node));
    for (uint8_t i = 0; i < graph.nodes()[at].types.size(); ++i) {
      translated[{at, i}] = {first.node, i};
    }
  }
  for (const Named& output : graph.outputs) {
    split.phase.outputs.push_back({output.name, translate(output.value)});
  }
  return split;
}

void merge_prepare(Graph& prepare, const Graph& more) {
  std::map<Value, Value> moved;
  for (const Named& output : more.outputs) {
    const Value value = move_static(more, output.value, prepare, moved);
    const auto known = prepare.find_output(output.name);
    NG_CHECK(!known || *known == value, "two tensors are called {}", output.name);
    if (!known) prepare.outputs.push_back({output.name, value});
  }
}

}  // namespace ng
