// How are the best of a vocabulary found where rows may not be wide?
#include <limits>

#include "base/error.h"
#include "passes/legalize_parts.h"

namespace ng {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// x [rows, n] with columns of `value` up to `width`.
Value widened(const Arithmetic& a, Value x, int64_t width, double value) {
  const Type type = a.g.type(x);
  if (type.size(1) == width) return x;
  const Shape more = {type.shape[0], width - type.size(1)};
  return concatenate(a.g, {x, a.fill(value, {type.dtype, more})}, 1);
}

constexpr double kLowest = std::numeric_limits<float>::lowest();

// top_k of rows that a device takes; columns that fill up are never among the best.
Best best_of_narrow(const Arithmetic& a, Value x, int64_t k) {
  const int64_t width = round_up(a.g.type(x).size(1), kTopKMultiple);
  const Value best = top_k(a.g, widened(a, x, width, kLowest), k);
  return {best, {best.node, 1}};
}

// numbers[r, index[r, i]] for each i: the sum over columns of what stands in the one named. A
// gather of single elements is what devices do worst. numbers s32[rows, n], below 2^24; index
// s32[rows, k]
Value chosen(const Arithmetic& a, Value numbers, Value index) {
  Graph& g = a.g;
  const int64_t rows = g.type(index).size(0), k = g.type(index).size(1);
  const Shape shape = {rows, k, g.type(numbers).size(1)};
  const Value all = broadcast(g, a.as(numbers, DType::f32), shape, {0, 2});
  const Value at = a.spread(index, shape), column = iota(g, {DType::s32, shape}, 2);
  const Value none = a.fill(0, {DType::f32, shape});
  const Value not_above = select_less(g, at, column, none, all);
  const Value one = select_less(g, column, at, none, not_above);
  return convert(g, reduce(g, Op::reduce_sum, one), DType::s32);
}

}  // namespace

Best best_of_rows(const Arithmetic& a, Value x, int64_t k) {
  Graph& g = a.g;
  const int64_t rows = g.type(x).size(0), n = g.type(x).size(1);
  if (round_up(n, kTopKMultiple) <= kTopKWidth) return best_of_narrow(a, x, k);
  const int64_t parts = (n + kTopKWidth - 1) / kTopKWidth;
  const int64_t width = round_up((n + parts - 1) / parts, kTopKMultiple);
  const int64_t kept = std::min(k, width);
  NG_CHECK(parts * kept < n, "the best {} of {} columns", k, n);  // stages come to an end
  const Value cut = reshape(g, widened(a, x, parts * width, kLowest), {rows * parts, width});
  const Best first = best_of_narrow(a, cut, kept);
  const Shape shape = {rows, parts, kept};
  const Value part = iota(g, {DType::s32, shape}, 1);
  const Value begin = a.op(Op::multiply, part, static_cast<double>(width));
  const Value ids = a.op(Op::add, reshape(g, first.ids, shape), begin);
  const Best second = best_of_rows(a, reshape(g, first.scores, {rows, parts * kept}), k);
  return {second.scores, chosen(a, reshape(g, ids, {rows, parts * kept}), second.ids)};
}

}  // namespace ng
