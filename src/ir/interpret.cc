// How is a graph walked: which node when, with which inputs, and how long do its results live?
#include "ir/interpret.h"

#include "base/error.h"
#include "ir/build.h"
#include "ir/evaluation.h"

namespace ng {
namespace {

// The node's own rules once more, on exact types: after this no function looks at a shape twice.
void check_types(const Evaluation& e) {
  Graph exact("on exact types");
  Node node{e.node.op, {}, e.node.attrs, e.types};
  for (size_t i = 0; i < e.in.size(); ++i) {
    const Tensor& tensor = e.in[i];
    NG_CHECK(byte_count(tensor.type) == static_cast<int64_t>(tensor.data.size()), "{} in {} bytes",
             to_string(tensor.type), tensor.data.size());
    node.inputs.push_back(input(exact, std::to_string(i), tensor.type));
  }
  check(infer(exact, node) == e.types, "{}: the results do not fit the inputs", row(node.op).name);
}

Results run(const Evaluation& e) {
  switch (e.node.op) {
#define OP(name, fewest, most, kind, rule) \
  case Op::name:                           \
    return evaluate_##name(e);
#include "ir/ops.def"
#undef OP
  }
  return {};
}

Tensor take_input(const Node& node, Bindings& bindings) {
  const auto found = bindings.inputs.find(node.attrs.name);
  check(found != bindings.inputs.end(), "input '{}' is missing", shown(node.attrs.name));
  Tensor tensor = std::move(found->second);
  bindings.inputs.erase(found);
  bindings.counts.bind(node.types[0], tensor.type, shown(node.attrs.name));
  return tensor;
}

Tensor load_weight(const Node& node, const Bindings& bindings) {
  NG_CHECK(bindings.weight, "no weights are given");
  Tensor tensor = bindings.weight(node.attrs.name);
  check(tensor.type == node.types[0], "weight '{}' is {}, the graph needs {}",
        shown(node.attrs.name), to_string(tensor.type), to_string(node.types[0]));
  return tensor;
}

// For every node the last one that reads it.
std::vector<size_t> last_readers(const Graph& graph, const std::vector<bool>& live) {
  std::vector<size_t> last(graph.nodes().size());
  for (size_t at = 0; at < last.size(); ++at) {
    if (!live[at]) continue;
    for (const Value& value : graph.nodes()[at].inputs) last[value.node] = at;
  }
  for (const Named& output : graph.outputs) last[output.value.node] = last.size();
  return last;
}

}  // namespace

Results evaluate_input(const Evaluation& e) {
  NG_CHECK(false, "input {} is given, not computed", e.node.attrs.name);
  return {};
}
Results evaluate_weight(const Evaluation& e) { return evaluate_input(e); }

void parallel(ThreadPool* threads, int64_t count, const std::function<void(int64_t)>& body) {
  if (threads == nullptr) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  threads->run(static_cast<size_t>(count), [&](size_t i) { body(static_cast<int64_t>(i)); });
}

std::vector<Tensor> evaluate(const Node& node, std::span<const Tensor> inputs, const Counts& counts,
                             ThreadPool* threads) {
  Evaluation e{node, inputs, {}, threads};
  for (const Type& type : node.types) e.types.push_back(counts.resolve(type));
  check_types(e);
  return run(e);
}

std::map<std::string, Tensor> interpret(const Graph& graph, Bindings bindings,
                                        ThreadPool* threads) {
  const std::vector<bool> live = live_nodes(graph);
  const std::vector<size_t> last = last_readers(graph, live);
  std::vector<std::vector<Tensor>> results(graph.nodes().size());
  for (size_t at = 0; at < results.size(); ++at) {  // first, because they bind the counts
    const Node& node = graph.nodes()[at];
    if (node.op == Op::input) results[at] = {take_input(node, bindings)};
  }
  for (size_t at = 0; at < results.size(); ++at) {
    const Node& node = graph.nodes()[at];
    if (!live[at] || node.op == Op::input) continue;
    if (node.op == Op::weight) {
      results[at] = {load_weight(node, bindings)};
      continue;
    }
    std::vector<Tensor> inputs;
    for (const Value& value : node.inputs) inputs.push_back(results[value.node][value.result]);
    results[at] = evaluate(node, inputs, bindings.counts, threads);
    for (const Value& value : node.inputs) {
      if (last[value.node] == at) results[value.node].clear();
    }
  }
  std::map<std::string, Tensor> outputs;
  for (const Named& output : graph.outputs) {
    outputs[output.name] = results[output.value.node][output.value.result];
  }
  return outputs;
}

}  // namespace ng
