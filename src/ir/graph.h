// A graph: a pure dataflow program over tensors. Nodes are appended in topological order and never
// change; passes build new graphs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/tensor.h"

namespace ng {

enum class Op : uint8_t {
#define OP(name, fewest, most, kind, rule) name,
#include "ir/ops.def"
#undef OP
};
enum class OpKind : uint8_t { leaf, primitive, composite };

struct OpRow {
  Op op;
  std::string_view name;
  size_t fewest_inputs, most_inputs;
  OpKind kind;
};
std::span<const OpRow> op_table();  // in the order of ops.def: op_table()[size_t(op)]
inline const OpRow& row(Op op) { return op_table()[static_cast<size_t>(op)]; }

enum class ActivationKind : uint8_t { none, relu, gelu, silu };
std::string_view name(ActivationKind kind);

// What an op needs besides its inputs. Fields that an op does not use keep these defaults
// (docs/ops.md lists who uses what; rule N3).
struct Attrs {
  std::string name;                                  // input, weight
  std::vector<int64_t> dims;                         // broadcast, transpose; all_reduce: ranks
  std::vector<double> values;                        // constant: at most 8
  int64_t axis = 0, begin = 0;                       // concatenate, slice, iota
  int64_t heads = 0;                                 // attend
  int64_t padding = -1;                              // embed: the position whose row is zero
  float scale = 1.0F;                                // embed, attend
  float eps = 0.0F;                                  // layer_norm
  ActivationKind activation = ActivationKind::none;  // linear, activate
  bool operator==(const Attrs&) const = default;
};

// One result of one node of one graph.
struct Value {
  uint32_t node = 0;
  uint8_t result = 0;
  auto operator<=>(const Value&) const = default;
};

struct Node {
  Op op = Op::input;
  std::vector<Value> inputs;
  Attrs attrs;
  std::vector<Type> types;  // one a result, 1 to 3
  bool operator==(const Node&) const = default;
};

struct Named {
  std::string name;
  Value value;
  bool operator==(const Named&) const = default;
};

class Graph {
 public:
  explicit Graph(std::string name = "") : name(std::move(name)) {}

  // The node's first result. An equal node that is already there is returned instead. Inputs must
  // exist; types are the caller's word (build.h infers them, verify() checks them).
  Value add(Node node);

  const Node& operator[](Value value) const { return nodes_[value.node]; }
  const Type& type(Value value) const { return nodes_[value.node].types[value.result]; }
  std::span<const Node> nodes() const { return nodes_; }

  std::string name;            // the phase: encode, decode, …
  std::vector<Named> outputs;  // in binding order; a state is an input and an output with one name

  // Inputs are the `input` nodes in node order; this is their names and values.
  std::vector<Named> inputs() const;
  std::optional<Value> find_input(std::string_view input_name) const;
  std::optional<Value> find_output(std::string_view output_name) const;

 private:
  std::vector<Node> nodes_;
  std::unordered_multimap<uint64_t, uint32_t> index_;  // hash → nodes, for lookups only
};

// For every node whether an output depends on it.
std::vector<bool> live_nodes(const Graph& graph);

// Rebuilds the live part of `graph` in order. For each node, `rule(out, node)` gets the new graph
// and the node with its inputs already translated, and returns one value per result: its
// replacement, or an empty vector to keep the node. Input nodes survive even when unused.
template <class Rule>
Graph rewrite(const Graph& graph, Rule rule) {
  Graph out(graph.name);
  const std::vector<bool> live = live_nodes(graph);
  std::vector<std::vector<Value>> moved(graph.nodes().size());
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    if (!live[at] && graph.nodes()[at].op != Op::input) continue;
    Node node = graph.nodes()[at];
    for (Value& value : node.inputs) value = moved[value.node][value.result];
    std::vector<Value> results = rule(out, static_cast<const Node&>(node));
    if (results.empty()) {
      const Value first = out.add(node);
      for (uint8_t i = 0; i < node.types.size(); ++i) results.push_back({first.node, i});
    }
    moved[at] = std::move(results);
  }
  for (const Named& output : graph.outputs) {
    out.outputs.push_back({output.name, moved[output.value.node][output.value.result]});
  }
  return out;
}

}  // namespace ng
