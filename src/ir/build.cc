#include "ir/build.h"

#include "base/error.h"

namespace ng {
namespace {

Node node(Op op, std::vector<Value> inputs, std::vector<Type> declared = {}) {
  Node made;
  made.op = op;
  made.inputs = std::move(inputs);
  made.types = std::move(declared);
  return made;
}

}  // namespace

Value add_inferred(Graph& graph, Node made) {
  made.types = infer(graph, made);
  return graph.add(std::move(made));
}

Value input(Graph& g, std::string name, Type type) {
  Node made = node(Op::input, {}, {std::move(type)});
  made.attrs.name = std::move(name);
  return add_inferred(g, std::move(made));
}

Value weight(Graph& g, std::string name, Type type) {
  Node made = node(Op::weight, {}, {std::move(type)});
  made.attrs.name = std::move(name);
  return add_inferred(g, std::move(made));
}

Value constant(Graph& g, std::vector<double> values, Type type) {
  Node made = node(Op::constant, {}, {std::move(type)});
  made.attrs.values = std::move(values);
  return add_inferred(g, std::move(made));
}

Value iota(Graph& g, Type type, int64_t axis) {
  Node made = node(Op::iota, {}, {std::move(type)});
  made.attrs.axis = axis;
  return add_inferred(g, std::move(made));
}

Value frequencies(Graph& g, int64_t size) {
  return add_inferred(g, node(Op::frequencies, {}, {Type{DType::f32, {size}}}));
}

Value elementwise(Graph& g, Op op, std::vector<Value> inputs) {
  return add_inferred(g, node(op, std::move(inputs)));
}

Value select_less(Graph& g, Value a, Value b, Value when_less, Value otherwise) {
  return add_inferred(g, node(Op::select_less, {a, b, when_less, otherwise}));
}

Value convert(Graph& g, Value x, DType dtype) {
  return add_inferred(g, node(Op::convert, {x}, {Type{dtype, g.type(x).shape}}));
}

Value broadcast(Graph& g, Value x, Shape shape, std::vector<int64_t> dims) {
  Node made = node(Op::broadcast, {x}, {Type{g.type(x).dtype, std::move(shape)}});
  made.attrs.dims = std::move(dims);
  return add_inferred(g, std::move(made));
}

Value reshape(Graph& g, Value x, Shape shape) {
  return add_inferred(g, node(Op::reshape, {x}, {Type{g.type(x).dtype, std::move(shape)}}));
}

Value transpose(Graph& g, Value x, std::vector<int64_t> dims) {
  Node made = node(Op::transpose, {x});
  made.attrs.dims = std::move(dims);
  return add_inferred(g, std::move(made));
}

Value concatenate(Graph& g, std::vector<Value> parts, int64_t axis) {
  Node made = node(Op::concatenate, std::move(parts));
  made.attrs.axis = axis;
  return add_inferred(g, std::move(made));
}

Value slice(Graph& g, Value x, int64_t axis, int64_t begin, int64_t size) {
  Type type = g.type(x);
  type.shape.at(static_cast<size_t>(axis)) = Dim(size);
  Node made = node(Op::slice, {x}, {std::move(type)});
  made.attrs.axis = axis;
  made.attrs.begin = begin;
  return add_inferred(g, std::move(made));
}

Value pack(Graph& g, Value x) { return add_inferred(g, node(Op::pack, {x})); }

Value unpack(Graph& g, Value x, int64_t rows) {
  const Type& from = g.type(x);
  NG_CHECK(from.rank() == 3, "unpack of {}", to_string(from));
  return add_inferred(g, node(Op::unpack, {x}, {Type{from.dtype, {rows, from.shape[1]}}}));
}

Value dot(Graph& g, Value a, Value b) { return add_inferred(g, node(Op::dot, {a, b})); }

Value reduce(Graph& g, Op op, Value x) { return add_inferred(g, node(op, {x})); }

Value all_reduce(Graph& g, Value x, int64_t ranks) {
  Node made = node(Op::all_reduce, {x});
  made.attrs.dims = {ranks};
  return add_inferred(g, std::move(made));
}

Value gather_rows(Graph& g, Value table, Value ids) {
  return add_inferred(g, node(Op::gather_rows, {table, ids}));
}

Value write_rows(Graph& g, Value state, Value rows, Value index) {
  return add_inferred(g, node(Op::write_rows, {state, rows, index}));
}

Value top_k(Graph& g, Value x, Dim k) {
  const Shape shape = {g.type(x).shape.at(0), k};
  return add_inferred(g, node(Op::top_k, {x}, {Type{DType::f32, shape}, Type{DType::s32, shape}}));
}

Value embed(Graph& g, const EmbedInputs& in, float scale, int64_t padding_position) {
  Node made = node(Op::embed, {in.ids, in.positions, in.table, in.frequencies});
  made.attrs.scale = scale;
  made.attrs.padding = padding_position;
  return add_inferred(g, std::move(made));
}

Value layer_norm(Graph& g, Value x, Value weight, Value bias, float eps) {
  Node made = node(Op::layer_norm, {x, weight, bias});
  made.attrs.eps = eps;
  return add_inferred(g, std::move(made));
}

Value linear(Graph& g, const LinearInputs& in, int64_t outputs, ActivationKind activation) {
  Node made = node(Op::linear, {in.x, in.weight});
  if (in.bias) made.inputs.push_back(*in.bias);
  NG_CHECK(in.bias || !in.residual, "a residual without a bias");
  if (in.residual) made.inputs.push_back(*in.residual);
  made.types = {Type{DType::f32, {g.type(in.x).shape.at(0), outputs}}};
  made.attrs.activation = activation;
  return add_inferred(g, std::move(made));
}

Value activate(Graph& g, Value x, ActivationKind kind) {
  Node made = node(Op::activate, {x});
  made.attrs.activation = kind;
  return add_inferred(g, std::move(made));
}

Value attend(Graph& g, const AttendInputs& in, int64_t heads, float scale) {
  Node made = node(Op::attend, {in.q, in.keys, in.values, in.history, in.length});
  made.attrs.heads = heads;
  made.attrs.scale = scale;
  return add_inferred(g, std::move(made));
}

Value log_sum_exp(Graph& g, Value x) { return add_inferred(g, node(Op::log_sum_exp, {x})); }

Value project_top_k(Graph& g, Value x, Value table, int64_t vocabulary, Dim k) {
  const Dim rows = g.type(x).shape.at(0);
  Node made = node(Op::project_top_k, {x, table});
  made.attrs.dims = {vocabulary};
  made.types = {Type{DType::f32, {rows, k}}, Type{DType::s32, {rows, k}}, Type{DType::f32, {rows}}};
  return add_inferred(g, std::move(made));
}

}  // namespace ng
