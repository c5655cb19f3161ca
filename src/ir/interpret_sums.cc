// What do the ops mean that add elements up or order them?
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "ir/evaluation.h"
#include "ir/sums.h"
#include "tensor/math.h"

namespace ng {
namespace {

constexpr int64_t kTile = 1024;  // log-sum-exp runs over tiles of this many elements

// max and sum of exp(x - max) of the elements so far.
struct TileSum {
  float max, sum;
};

TileSum tile_sum(const float* x, int64_t n) {
  float best = x[0], e[kTile];
  for (int64_t i = 1; i < n; ++i) best = x[i] > best ? x[i] : best;
  for (int64_t i = 0; i < n; ++i) e[i] = exp_f32(x[i] - best);
  return {best, lanes_sum(e, n)};
}

TileSum combine(TileSum a, TileSum b) {
  const float best = a.max > b.max ? a.max : b.max;
  return {best, a.sum * exp_f32(a.max - best) + b.sum * exp_f32(b.max - best)};
}

float log_sum_exp_line(const float* x, int64_t n) {
  TileSum total{-std::numeric_limits<float>::infinity(), 0.0F};
  for (int64_t i = 0; i < n; i += kTile) {
    total = combine(total, tile_sum(x + i, std::min(kTile, n - i)));
  }
  return total.max + log_f32(total.sum);
}

// Every line along the last axis of x, n long, becomes one number.
template <class Function>
Results reduce_lines(const Evaluation& e, Function function) {
  const Elements<float> x(e.in[0]);
  const int64_t n = e.in[0].type.size(-1), count = element_count(e.types[0].shape);
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = function(x.data() + i * n, n);
  });
}

}  // namespace

Matrix::Matrix(const Tensor& tensor, int64_t rows)
    : tensor_(tensor), rows_(rows), k_(tensor.type.size(1)), packed_(tensor.type.rank() == 3) {}

void Matrix::widen(int64_t first, int64_t count, float* out) const {
  const size_t width = byte_size(tensor_.type.dtype);
  const std::byte* from = tensor_.data.data() + static_cast<size_t>(first) * width;
  if (tensor_.type.dtype == DType::f32) {
    if (count > 0) std::memcpy(out, from, static_cast<size_t>(count) * width);
    return;
  }
  for (int64_t i = 0; i < count; ++i, from += width) {
    uint16_t bits = 0;
    std::memcpy(&bits, from, width);
    out[i] = bf16_to_f32(bits);
  }
}

const float* Matrix::panel(int64_t p, std::vector<float>& scratch) const {
  const int64_t size = k_ * kLanes;
  if (packed_ && tensor_.type.dtype == DType::f32) {
    const std::byte* at = tensor_.data.data() + static_cast<size_t>(p * size) * sizeof(float);
    if (reinterpret_cast<uintptr_t>(at) % alignof(float) == 0) {
      return reinterpret_cast<const float*>(at);
    }
  }
  scratch.assign(static_cast<size_t>(size + k_), 0.0F);
  if (packed_) {
    widen(p * size, size, scratch.data());
    return scratch.data();
  }
  float* line = scratch.data() + size;
  for (int64_t j = 0; j < std::min(kLanes, rows_ - p * kLanes); ++j) {
    row(p * kLanes + j, line);
    for (int64_t i = 0; i < k_; ++i) scratch[static_cast<size_t>(i * kLanes + j)] = line[i];
  }
  return scratch.data();
}

void Matrix::row(int64_t r, float* out) const {
  if (!packed_) return widen(r * k_, k_, out);
  const int64_t first = r / kLanes * k_ * kLanes + r % kLanes;
  for (int64_t i = 0; i < k_; ++i) widen(first + i * kLanes, 1, out + i);
}

void multiply(const float* a, int64_t rows, const Matrix& b, float* out, ThreadPool* threads) {
  if (rows == 0) return;
  const int64_t n = b.rows();
  parallel(threads, (n + kLanes - 1) / kLanes, [&](int64_t p) {
    std::vector<float> scratch;
    const int64_t width = std::min(kLanes, n - p * kLanes);
    multiply_panel({a, b.panel(p, scratch), out + p * kLanes, rows, b.inner(), width, n});
  });
}

Results evaluate_dot(const Evaluation& e) {
  const Type wide{DType::f32, e.in[0].type.shape};
  const Tensor widened = evaluate_convert({e.node, e.in.first(1), {wide}, e.threads})[0];
  const Elements<float> a(widened);
  const Type &left = e.in[0].type, &right = e.in[1].type;
  const int64_t m = left.size(-2), k = left.size(-1), n = right.size(-2);
  const size_t bytes = static_cast<size_t>(n * k) * byte_size(right.dtype);
  const int64_t batch = element_count(Shape(left.shape.begin(), left.shape.end() - 2));
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t i = 0; i < batch; ++i) {
      const auto part = e.in[1].data.subspan(static_cast<size_t>(i) * bytes, bytes);
      const Tensor b{Type{right.dtype, {n, k}}, e.in[1].owner, part};
      multiply(a.data() + i * m * k, m, Matrix(b, n), out + i * m * n, e.threads);
    }
  });
}

Results evaluate_reduce_sum(const Evaluation& e) { return reduce_lines(e, lanes_sum); }

Results evaluate_reduce_max(const Evaluation& e) {
  return reduce_lines(e, [](const float* x, int64_t n) {
    float best = -std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < n; ++i) best = x[i] > best ? x[i] : best;
    return best;
  });
}

Results evaluate_log_sum_exp(const Evaluation& e) { return reduce_lines(e, log_sum_exp_line); }

Results evaluate_top_k(const Evaluation& e) {
  const Elements<float> x(e.in[0]);
  const int64_t rows = e.types[0].size(0), k = e.types[0].size(1), n = e.in[0].type.size(1);
  std::vector<int32_t> ids(static_cast<size_t>(rows * k));
  Results results = make<float>(e.types[0], [&](float* out) {
    std::vector<int32_t> order(static_cast<size_t>(n));
    for (int64_t r = 0; r < rows; ++r) {
      const float* line = x.data() + r * n;
      std::iota(order.begin(), order.end(), 0);
      // A NaN counts as the lowest, so that the order is one.
      const auto key = [&](int32_t i) { return std::isnan(line[i]) ? -INFINITY : line[i]; };
      std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int32_t i, int32_t j) {
        return key(i) > key(j) || (key(i) == key(j) && i < j);
      });
      std::copy_n(order.begin(), k, ids.begin() + r * k);
      for (int64_t i = 0; i < k; ++i) out[r * k + i] = line[order[static_cast<size_t>(i)]];
    }
  });
  results.push_back(Tensor::of<int32_t>(DType::s32, e.types[1].shape, ids));
  return results;
}

}  // namespace ng
