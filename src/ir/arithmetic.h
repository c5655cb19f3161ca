// How is arithmetic with scalars and along the last axis written in primitives?
#pragma once

#include <limits>

#include "ir/build.h"

namespace ng {

struct Arithmetic {
  Graph& g;

  Value fill(double value, Type type) const {
    const Value one = constant(g, {value}, {type.dtype, {}});
    return broadcast(g, one, std::move(type.shape), {});
  }
  Value op(Op op, Value a) const { return elementwise(g, op, {a}); }
  Value op(Op op, Value a, Value b) const { return elementwise(g, op, {a, b}); }
  Value op(Op op, Value a, double b) const { return elementwise(g, op, {a, fill(b, g.type(a))}); }
  Value op(Op op, double a, Value b) const { return elementwise(g, op, {fill(a, g.type(b)), b}); }

  // x [...] once more along the last axes of `shape`.
  Value spread(Value x, const Shape& shape) const {
    std::vector<int64_t> dims;
    for (int i = 0; i < g.type(x).rank(); ++i) dims.push_back(i);
    return broadcast(g, x, shape, std::move(dims));
  }
  Value as(Value x, DType dtype) const {
    return g.type(x).dtype == dtype ? x : convert(g, x, dtype);
  }

  // e = exp(x - max x) along the last axis, with its sum and max.
  struct Softmax {
    Value e, sum, max;
  };
  Softmax softmax(Value x) const {
    const Value max = reduce(g, Op::reduce_max, x);
    const Value e = op(Op::exp, op(Op::subtract, x, spread(max, g.type(x).shape)));
    return {e, reduce(g, Op::reduce_sum, e), max};
  }
  // Probabilities along the last axis of x f32[a, b, c, n], 0 from `length` s32[a, b, c, n] on.
  Value masked_softmax(Value x, Value length) const {
    const Shape shape = g.type(x).shape;
    const Value lowest = fill(std::numeric_limits<float>::lowest(), {DType::f32, shape});
    const Value index = iota(g, {DType::s32, shape}, g.type(x).rank() - 1);
    const Softmax parts = softmax(select_less(g, index, length, x, lowest));
    return op(Op::divide, parts.e, spread(parts.sum, shape));
  }
};

}  // namespace ng
