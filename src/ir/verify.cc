// Is a graph well-formed? The rules' numbers are docs/ops.md's.
#include "ir/verify.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "ir/build.h"

namespace ng {
namespace {

constexpr int64_t kDimLimit = int64_t{1} << 40, kByteLimit = int64_t{1} << 62;

// N3: what remains of the attributes when only those that the op uses are kept.
Attrs used_attrs(const Node& node) {
  const Attrs& has = node.attrs;
  Attrs used;
  switch (node.op) {
    case Op::input:
    case Op::weight: used.name = has.name; break;
    case Op::constant: used.values = has.values; break;
    case Op::broadcast:
    case Op::transpose:
    case Op::all_reduce:
    case Op::project_top_k: used.dims = has.dims; break;
    case Op::slice: used.begin = has.begin; [[fallthrough]];
    case Op::iota:
    case Op::concatenate: used.axis = has.axis; break;
    case Op::embed:
      used.scale = has.scale;
      used.padding = has.padding;
      break;
    case Op::attend:
      used.scale = has.scale;
      used.heads = has.heads;
      break;
    case Op::layer_norm: used.eps = has.eps; break;
    case Op::linear:
    case Op::activate: used.activation = has.activation; break;
    default: break;
  }
  return used;
}

// N3: numbers are finite and no zero is negative, so that equal numbers have equal bits.
bool is_plain(double number) {
  return std::isfinite(number) && !(number == 0 && std::signbit(number));
}

void check_node(const Graph& graph, const Node& node) {
  for (const Type& type : node.types) {
    check(is_bounded(type), "{} breaks rule V5", to_string(type));
  }
  bool plain = is_plain(node.attrs.scale) && is_plain(node.attrs.eps);
  for (const double value : node.attrs.values) plain = plain && is_plain(value);
  check(plain, "{} breaks rule N3: a number is not finite, or -0", row(node.op).name);
  check(used_attrs(node) == node.attrs,
        "{} breaks rule N3: it has an attribute that is not its own", row(node.op).name);
  const std::vector<Type> inferred = infer(graph, node);
  check(inferred == node.types, "{} breaks rule V2: its result is {}", row(node.op).name,
        to_string(inferred[0]));
}

void check_names(const Graph& graph) {  // V1
  std::set<std::string> inputs, outputs;
  std::map<std::string, Type> weights;
  for (const Node& node : graph.nodes()) {
    const std::string& name = node.attrs.name;
    if (node.op == Op::input) {
      check(inputs.insert(name).second, "two inputs '{}' break rule V1", shown(name));
    }
    if (node.op == Op::weight) {
      const Type& first = weights.emplace(name, node.types[0]).first->second;
      check(first == node.types[0], "weight '{}' of two types breaks rule V1", shown(name));
    }
  }
  for (const Named& output : graph.outputs) {
    check(!output.name.empty() && outputs.insert(output.name).second,
          "output '{}' without a name of its own breaks rule V1", shown(output.name));
  }
}

void check_states(const Graph& graph) {  // V3
  std::vector<int> uses(graph.nodes().size());
  for (const Node& node : graph.nodes()) {
    for (const Value& value : node.inputs) ++uses[value.node];
  }
  for (const Named& output : graph.outputs) ++uses[output.value.node];
  std::map<std::string, Value> inputs;
  for (const Named& input : graph.inputs()) inputs[input.name] = input.value;
  for (const Named& output : graph.outputs) {
    const auto state = inputs.find(output.name);
    if (state == inputs.end()) continue;
    const Node& writer = graph[output.value];
    check(writer.op == Op::write_rows && writer.inputs[0] == state->second,
          "state '{}' breaks rule V3: its output is not written from its input",
          shown(output.name));
    check(uses[state->second.node] == 1, "state '{}' breaks rule V3: something else reads it",
          shown(output.name));
  }
}

void check_counts(const Graph& graph) {  // V4
  std::set<Count> carried = {Count::none};
  const auto carry = [&](const Type& type) {
    for (const Dim& dim : type.shape) carried.insert(dim.count);
  };
  for (const Named& input : graph.inputs()) carry(graph.type(input.value));
  for (const Named& output : graph.outputs) carry(graph.type(output.value));
  for (const Node& node : graph.nodes()) {
    for (const Type& type : node.types) {
      for (const Dim& dim : type.shape) {
        check(carried.contains(dim.count), "{} breaks rule V4: nothing binds {}", row(node.op).name,
              name(dim.count));
      }
    }
  }
}

}  // namespace

// By hand because no product of some of a hostile shape's sizes may overflow.
bool is_bounded(const Type& type) {
  int64_t bytes = static_cast<int64_t>(byte_size(type.dtype));
  for (const Dim& dim : type.shape) {
    if (dim.size < 0 || dim.size > kDimLimit) return false;
    const int64_t factor = std::max<int64_t>(dim.size, 1);
    if (bytes > kByteLimit / factor) return false;
    bytes *= factor;
  }
  return type.rank() <= 4;
}

void verify(const Graph& graph) {
  check(graph.nodes().size() <= kNodeLimit, "graph {} has {} nodes and breaks rule V5",
        shown(graph.name), graph.nodes().size());
  for (size_t at = 0; at < graph.nodes().size(); ++at) {
    try {
      check_node(graph, graph.nodes()[at]);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("%{}: {}", at, error.what()));
    }
  }
  check_names(graph);
  check_states(graph);
  check_counts(graph);
}

}  // namespace ng
