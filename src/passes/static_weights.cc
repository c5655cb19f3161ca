// Which tensors does a static target want made beforehand, and how do its matrices lie?
#include <set>

#include "ir/build.h"
#include "ir/decompose.h"
#include "passes/passes.h"

namespace ng {
namespace {

// Weights that something else than the second operand of a product reads.
std::set<uint32_t> read_otherwise(const Graph& graph) {
  std::set<uint32_t> found;
  for (const Node& node : graph.nodes()) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.op != Op::dot || i != 1) found.insert(node.inputs[i].node);
    }
  }
  return found;
}

std::string transposed(const std::string& name) { return name + ".transposed"; }

}  // namespace

Graph tabulate_positions(const Graph& graph, int64_t positions) {
  return rewrite(graph, [&](Graph& out, const Node& node) -> std::vector<Value> {
    if (node.op != Op::embed) return {};
    Node made = node;
    const Value all = iota(out, {DType::s32, {positions}}, 0);
    made.inputs[3] = sinusoids(out, all, node.inputs[3], node.types[0].size(1), node.attrs.padding);
    return {add_inferred(out, std::move(made))};
  });
}

Split contraction_first(const Split& split) {
  const std::set<uint32_t> others = read_otherwise(split.phase);
  Split result{Graph(split.phase.name), split.prepare};
  std::set<std::string> named, turned;
  uint32_t at = 0;
  for (const Node& node : split.phase.nodes()) {
    if (node.op == Op::weight) named.insert(node.attrs.name);
    const bool matrix = node.op == Op::weight && node.types[0].rank() == 2;
    if (matrix && !others.contains(at)) turned.insert(node.attrs.name);
    ++at;
  }
  result.phase = rewrite(split.phase, [&](Graph& out, const Node& node) -> std::vector<Value> {
    if (node.op != Op::weight || !turned.contains(node.attrs.name)) return {};
    const Type& type = node.types[0];
    const Type lying{type.dtype, {type.shape[1], type.shape[0]}};
    return {transpose(out, weight(out, transposed(node.attrs.name), lying), {1, 0})};
  });
  std::erase_if(result.prepare.outputs,  // of what legalize left out
                [&](const Named& output) { return !named.contains(output.name); });
  for (Named& output : result.prepare.outputs) {
    if (!turned.contains(output.name)) continue;
    output = {transposed(output.name), transpose(result.prepare, output.value, {1, 0})};
  }
  return result;
}

}  // namespace ng
