// How are the fixed sums computed fast enough for whole models? Each loop is compiled twice, once
// with FMA instructions; where the CPU has none, fma is the C library's, with the same bits.
#include "ir/sums.h"

#include <algorithm>

namespace ng {
namespace {

// A loop is a lambda that is always inlined, so that it takes on the instructions of its caller.
#if defined(__x86_64__)
template <class Loop>
[[gnu::target("avx2,fma")]] void run_with_fma(const Loop& loop) {
  loop();
}
template <class Loop>
void run(const Loop& loop) {
  static const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  has_fma ? run_with_fma(loop) : loop();
}
#else
template <class Loop>
void run(const Loop& loop) {
  loop();
}
#endif

float tree(float* lane) {
  for (int64_t half = kLanes / 2; half >= 1; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

template <int64_t kRows>
void multiply_rows(const PanelProduct& p, int64_t first) {
  run([&]() __attribute__((always_inline)) {
    float sum[kRows][kLanes] = {};
    const float* a = p.a + first * p.k;
    for (int64_t i = 0; i < p.k; ++i) {
      const float* b = p.panel + i * kLanes;
      for (int64_t r = 0; r < kRows; ++r) {
        const float scale = a[r * p.k + i];
        for (int64_t j = 0; j < kLanes; ++j) sum[r][j] = __builtin_fmaf(scale, b[j], sum[r][j]);
      }
    }
    for (int64_t r = 0; r < kRows; ++r) {
      std::copy_n(sum[r], p.width, p.out + (first + r) * p.out_stride);
    }
  });
}

}  // namespace

float lanes_sum(const float* x, int64_t n) {
  float lane[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lane[i % kLanes] += x[i];
  return tree(lane);
}

float lanes_dot(const float* a, const float* b, int64_t n) {
  float lane[kLanes] = {};
  run([&]() __attribute__((always_inline)) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) lane[j] = __builtin_fmaf(a[i + j], b[i + j], lane[j]);
    }
    for (int64_t j = 0; i + j < n; ++j) lane[j] = __builtin_fmaf(a[i + j], b[i + j], lane[j]);
  });
  return tree(lane);
}

void add_scaled(float scale, const float* x, int64_t n, float* acc) {
  run([&]() __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; ++i) acc[i] = __builtin_fmaf(scale, x[i], acc[i]);
  });
}

void multiply_panel(const PanelProduct& product) {
  int64_t row = 0;
  for (; row + 4 <= product.rows; row += 4) multiply_rows<4>(product, row);
  for (; row < product.rows; ++row) multiply_rows<1>(product, row);
}

}  // namespace ng
