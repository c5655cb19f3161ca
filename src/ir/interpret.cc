// How is a graph walked: which node when, with which inputs, and how long do its results live?
#include "ir/interpret.h"

#include <algorithm>

#include "base/error.h"
#include "ir/build.h"
#include "ir/evaluation.h"
#include "tensor/ranks.h"

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

Tensor take_input(const Node& node, Bindings& bindings, int64_t ranks) {
  const auto found = bindings.inputs.find(node.attrs.name);
  check(found != bindings.inputs.end(), "input '{}' is missing", shown(node.attrs.name));
  Tensor tensor = std::move(found->second);
  bindings.inputs.erase(found);
  if (tensor.type != of_ranks(node.types[0], ranks)) {
    bindings.counts.bind(node.types[0], tensor.type, shown(node.attrs.name));
  }
  return tensor;
}

Tensor load_weight(const Node& node, const Bindings& bindings, const std::string& name) {
  NG_CHECK(bindings.weight, "no weights are given");
  Tensor tensor = bindings.weight(name);
  check(tensor.type == node.types[0], "weight '{}' is {}, the graph needs {}", shown(name),
        to_string(tensor.type), to_string(node.types[0]));
  return tensor;
}

// Of an input the rank's own part, where it holds those of all ranks.
Tensor part_of(const Tensor& tensor, const Type& type, int64_t rank, int64_t ranks) {
  if (ranks == 1 || tensor.type == type) return tensor;
  const auto bytes = static_cast<size_t>(byte_count(type));
  return {type, tensor.owner, tensor.data.subspan(static_cast<size_t>(rank) * bytes, bytes)};
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

Results evaluate_all_reduce(const Evaluation& e) { return evaluate_input(e); }

Tensor sum_of_ranks(std::span<const Tensor> parts) {
  const Type& type = parts[0].type;
  return make<float>(type, [&](float* out) {
    for (const Tensor& part : parts) {
      const Elements<float> x(part);
      for (int64_t i = 0; i < x.size(); ++i) out[i] = &part == &parts[0] ? x[i] : out[i] + x[i];
    }
  })[0];
}

int64_t ranks_of(const Graph& graph) {
  const auto nodes = graph.nodes();
  const auto sum = std::ranges::find(nodes, Op::all_reduce, &Node::op);
  return sum == nodes.end() ? 1 : sum->attrs.dims[0];
}

namespace {

// The values of all ranks, node by node, so that all are as far.
class Walk {
 public:
  Walk(const Graph& graph, Bindings bindings, ThreadPool* threads)
      : graph_(graph),
        bindings_(std::move(bindings)),
        threads_(threads),
        results_(static_cast<size_t>(ranks_of(graph)), Values(graph.nodes().size())) {}
  std::map<std::string, Tensor> run();

 private:
  using Values = std::vector<std::vector<Tensor>>;  // by node
  int64_t ranks() const { return std::ssize(results_); }
  std::vector<Tensor> of_all(Value value) const {
    std::vector<Tensor> found;
    for (const Values& values : results_) found.push_back(values[value.node][value.result]);
    return found;
  }
  std::vector<Tensor> computed(const Node& node, int64_t rank) const;

  const Graph& graph_;
  Bindings bindings_;
  ThreadPool* threads_;
  std::vector<Values> results_;  // by rank
};

std::vector<Tensor> Walk::computed(const Node& node, int64_t rank) const {
  if (node.op == Op::all_reduce) return {sum_of_ranks(of_all(node.inputs[0]))};
  if (node.op == Op::weight) {
    return {load_weight(node, bindings_, rank_name(node.attrs.name, rank, ranks()))};
  }
  const Values& values = results_[static_cast<size_t>(rank)];
  std::vector<Tensor> inputs;
  for (const Value& value : node.inputs) inputs.push_back(values[value.node][value.result]);
  return evaluate(node, inputs, bindings_.counts, threads_);
}

std::map<std::string, Tensor> Walk::run() {
  const std::vector<bool> live = live_nodes(graph_);
  const std::vector<size_t> last = last_readers(graph_, live);
  for (size_t at = 0; at < live.size(); ++at) {  // first, because they bind the counts
    const Node& node = graph_.nodes()[at];
    if (node.op != Op::input) continue;
    const Tensor given = take_input(node, bindings_, ranks());
    for (int64_t rank = 0; rank < ranks(); ++rank) {
      results_[size_t(rank)][at] = {part_of(given, node.types[0], rank, ranks())};
    }
  }
  for (size_t at = 0; at < live.size(); ++at) {
    const Node& node = graph_.nodes()[at];
    if (!live[at] || node.op == Op::input) continue;
    for (int64_t rank = 0; rank < ranks(); ++rank) {
      const bool known = node.op == Op::all_reduce && rank > 0;
      results_[size_t(rank)][at] = known ? results_[0][at] : computed(node, rank);
    }
    for (Values& values : results_) {
      for (const Value& value : node.inputs) {
        if (last[value.node] == at) values[value.node].clear();
      }
    }
  }
  std::map<std::string, Tensor> outputs;
  for (const Named& output : graph_.outputs) outputs[output.name] = of_ranks(of_all(output.value));
  return outputs;
}

}  // namespace

std::map<std::string, Tensor> interpret(const Graph& graph, Bindings bindings,
                                        ThreadPool* threads) {
  return Walk(graph, std::move(bindings), threads).run();
}

}  // namespace ng
