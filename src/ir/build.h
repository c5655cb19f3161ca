// How nodes are made: one typed constructor an op, which infers the type of each result and refuses
// inputs that break a rule of docs/ops.md.
#pragma once

#include "ir/graph.h"

namespace ng {

// The result types that `node` must have. Where an op's result is the caller's choice (input,
// reshape, convert, …) node.types says it, and is checked. A broken rule: User, with the rule's
// number.
std::vector<Type> infer(const Graph& graph, const Node& node);

// Adds the node with inferred types.
Value add_inferred(Graph& graph, Node node);

Value input(Graph& g, std::string name, Type type);
Value weight(Graph& g, std::string name, Type type);
Value constant(Graph& g, std::vector<double> values, Type type);
Value iota(Graph& g, Type type, int64_t axis);
Value frequencies(Graph& g, int64_t size);  // f32[size]

// Element by element, by op: add … minimum take two values, exp … cos one.
Value elementwise(Graph& g, Op op, std::vector<Value> inputs);
Value select_less(Graph& g, Value a, Value b, Value when_less, Value otherwise);
Value convert(Graph& g, Value x, DType dtype);

Value broadcast(Graph& g, Value x, Shape shape, std::vector<int64_t> dims);
Value reshape(Graph& g, Value x, Shape shape);
Value transpose(Graph& g, Value x, std::vector<int64_t> dims);
Value concatenate(Graph& g, std::vector<Value> parts, int64_t axis);
Value slice(Graph& g, Value x, int64_t axis, int64_t begin, int64_t size);
Value pack(Graph& g, Value x);                  // [n, k] → [⌈n/16⌉, k, 16]
Value unpack(Graph& g, Value x, int64_t rows);  // its inverse, for n = rows

Value dot(Graph& g, Value a, Value b);               // [..., m, k] · [..., n, k] → [..., m, n]
Value reduce(Graph& g, Op op, Value x);              // reduce_sum, reduce_max over the last axis
Value all_reduce(Graph& g, Value x, int64_t ranks);  // their sum
Value gather_rows(Graph& g, Value table, Value ids);
Value write_rows(Graph& g, Value state, Value rows, Value index);
Value top_k(Graph& g, Value x, Dim k);  // two results: scores, ids

struct EmbedInputs {
  Value ids, positions, table, frequencies;
};
Value embed(Graph& g, const EmbedInputs& inputs, float scale, int64_t padding_position);
Value layer_norm(Graph& g, Value x, Value weight, Value bias, float eps);

struct LinearInputs {
  Value x, weight;
  std::optional<Value> bias, residual;  // a residual needs a bias
};
Value linear(Graph& g, const LinearInputs& inputs, int64_t outputs,
             ActivationKind activation = ActivationKind::none);
Value activate(Graph& g, Value x, ActivationKind kind);

struct AttendInputs {
  Value q, keys, values, history, length;
};
Value attend(Graph& g, const AttendInputs& inputs, int64_t heads, float scale);
Value log_sum_exp(Graph& g, Value x);
// Three results: scores [rows, k], ids [rows, k], log_sum_exp [rows].
Value project_top_k(Graph& g, Value x, Value table, int64_t vocabulary, Dim k);

inline constexpr int64_t kPackWidth = 16;  // outputs side by side in a packed matrix

}  // namespace ng
