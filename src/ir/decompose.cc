// What does each composite mean in primitives? Where a line keeps its order, docs/ops.md says so.
#include "ir/decompose.h"

#include <algorithm>

#include "base/error.h"
#include "ir/arithmetic.h"

namespace ng {
namespace {

// A node's inputs and attributes, and the graph its definition goes into.
struct Definition : Arithmetic {
  const Node& node;

  Value in(size_t i) const { return node.inputs[i]; }
  Dim dim(size_t input, size_t axis) const { return g.type(in(input)).shape[axis]; }

  // Input i, a matrix of `rows` rows, as plain f32.
  Value matrix(size_t i, int64_t rows) const {
    return as(g.type(in(i)).rank() == 3 ? unpack(g, in(i), rows) : in(i), DType::f32);
  }
};

Value define_embed(const Definition& d) {
  Graph& g = d.g;
  const Type& table = g.type(d.in(2));
  const Value plain = table.rank() == 3 ? unpack(g, d.in(2), table.size(0) * kPackWidth) : d.in(2);
  const Value x = d.as(gather_rows(g, plain, d.in(0)), DType::f32);
  const int64_t width = d.node.types[0].size(1);
  const Value positions = g.type(d.in(3)).rank() == 2
                              ? gather_rows(g, d.in(3), d.in(1))
                              : sinusoids(g, d.in(1), d.in(3), width, d.node.attrs.padding);
  return d.op(Op::add, d.op(Op::multiply, x, d.node.attrs.scale), positions);
}

Value define_layer_norm(const Definition& d) {
  Graph& g = d.g;
  const Value x = d.in(0);
  const Shape shape = g.type(x).shape;
  const auto size = static_cast<double>(shape[1].size);
  const Value mean = d.op(Op::divide, reduce(g, Op::reduce_sum, x), size);
  const Value centered = d.op(Op::subtract, x, d.spread(mean, shape));
  const Value squares = reduce(g, Op::reduce_sum, d.op(Op::multiply, centered, centered));
  const Value variance = d.op(Op::divide, squares, size);
  const Value deviation = d.op(Op::sqrt, d.op(Op::add, variance, d.node.attrs.eps));
  const Value inverse = d.op(Op::divide, 1.0, deviation);
  const Value normal = d.op(Op::multiply, centered, d.spread(inverse, shape));
  const Value scaled = d.op(Op::multiply, normal, broadcast(g, d.in(1), shape, {1}));
  return d.op(Op::add, scaled, broadcast(g, d.in(2), shape, {1}));
}

Value define_linear(const Definition& d) {
  const Shape shape = d.node.types[0].shape;
  const size_t inputs = d.node.inputs.size();
  Value y = dot(d.g, d.in(0), d.matrix(1, shape[1].size));
  if (inputs > 2) y = d.op(Op::add, y, broadcast(d.g, d.in(2), shape, {1}));
  if (d.node.attrs.activation != ActivationKind::none) {
    y = activate(d.g, y, d.node.attrs.activation);
  }
  return inputs > 3 ? d.op(Op::add, y, d.in(3)) : y;
}

Value define_activate(const Definition& d) {
  const Value x = d.in(0);
  switch (d.node.attrs.activation) {
    case ActivationKind::none: return x;
    case ActivationKind::relu: return d.op(Op::maximum, 0.0, x);
    case ActivationKind::gelu: {
      const Value erf = d.op(Op::erf, d.op(Op::multiply, x, double{0x1.6a09e6p-1F}));  // x / √2
      return d.op(Op::multiply, d.op(Op::multiply, 0.5, x), d.op(Op::add, 1.0, erf));
    }
    case ActivationKind::silu:
      return d.op(Op::divide, x, d.op(Op::add, 1.0, d.op(Op::exp, d.op(Op::subtract, 0.0, x))));
  }
  return x;
}

// The keys' or values' rows of every position, [rows, context, heads, head_dim].
Value cached(const Definition& d, size_t input, Value at) {
  const Value found = gather_rows(d.g, d.in(input), at);
  Shape shape = d.g.type(found).shape;
  const int64_t heads = d.node.attrs.heads, head_dim = shape.back().size / heads;
  shape.back() = heads;
  shape.emplace_back(head_dim);
  return reshape(d.g, found, std::move(shape));
}

// All positions up to the longest possible history, those beyond a row's length masked: their
// probabilities are 0, which changes no sum.
Value define_attend(const Definition& d) {
  Graph& g = d.g;
  const Dim rows = d.dim(0, 0), listed = d.dim(3, 1);
  const bool run = listed == Dim(1);
  const Dim context = run ? d.dim(1, 0) : listed;
  const int64_t heads = d.node.attrs.heads, head_dim = d.dim(0, 1).size / heads;
  Value at = d.in(3);
  if (run) {
    const Type type{DType::s32, {rows, context}};
    at = d.op(Op::add, d.spread(at, type.shape), iota(g, type, 1));
  }
  const Value keys = transpose(g, cached(d, 1, at), {0, 2, 1, 3});
  const Value values = transpose(g, cached(d, 2, at), {0, 2, 3, 1});
  const Value q = reshape(g, d.in(0), {rows, heads, 1, head_dim});
  const Shape shape = {rows, heads, 1, context};
  const Value scores = d.op(Op::multiply, dot(g, q, keys), d.node.attrs.scale);
  const Value p = d.masked_softmax(scores, broadcast(g, d.in(4), shape, {0}));
  return reshape(g, dot(g, p, values), d.node.types[0].shape);
}

Value define_log_sum_exp(const Definition& d) {
  const Definition::Softmax parts = d.softmax(d.in(0));
  return d.op(Op::add, parts.max, d.op(Op::log, parts.sum));
}

std::vector<Value> define_project_top_k(const Definition& d) {
  const Value logits = dot(d.g, d.in(0), d.matrix(1, d.node.attrs.dims[0]));
  const Value best = top_k(d.g, logits, d.node.types[0].shape[1]);
  return {best, {best.node, 1}, log_sum_exp(d.g, logits)};
}

}  // namespace

Value sinusoids(Graph& g, Value positions, Value frequencies, int64_t width, int64_t padding) {
  const Arithmetic d{g};
  const Dim rows = g.type(positions).shape[0];
  const int64_t half = g.type(frequencies).size(0);
  const Type type{DType::f32, {rows, width}}, angles{DType::f32, {rows, half}};
  const Value position = d.spread(convert(g, positions, DType::f32), angles.shape);
  const Value angle = d.op(Op::multiply, position, broadcast(g, frequencies, angles.shape, {1}));
  std::vector<Value> parts = {d.op(Op::sin, angle), d.op(Op::cos, angle)};
  if (width > 2 * half) parts.push_back(d.fill(0, {DType::f32, {rows, width - 2 * half}}));
  const Value table = concatenate(g, parts, 1);
  if (padding < 0) return table;
  // Zero where the position is neither below nor above.
  const Value at = d.spread(positions, type.shape);
  const Value padded = d.fill(static_cast<double>(padding), {DType::s32, type.shape});
  const Value above = select_less(g, padded, at, table, d.fill(0, type));
  return select_less(g, at, padded, table, above);
}

std::vector<Value> decompose(Graph& out, const Node& node) {
  const Definition d{{out}, node};
  switch (node.op) {
    case Op::embed: return {define_embed(d)};
    case Op::layer_norm: return {define_layer_norm(d)};
    case Op::linear: return {define_linear(d)};
    case Op::activate: return {define_activate(d)};
    case Op::attend: return {define_attend(d)};
    case Op::log_sum_exp: return {define_log_sum_exp(d)};
    case Op::project_top_k: return define_project_top_k(d);
    default: NG_CHECK(false, "{} is no composite", row(node.op).name);
  }
  return {};
}

}  // namespace ng
