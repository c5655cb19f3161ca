// The fixed orders of float sums (docs/numerics.md), which the CPU kernels keep too:
//   chain   acc = +0; acc = fma(a[i], b[i], acc) for i ascending
//   lanes   16 accumulators, element i goes to lane i mod 16, each lane a chain; then the tree
//           l[i] += l[i+8], l[i] += l[i+4], l[i] += l[i+2], l[0] + l[1]
#pragma once

#include <cstdint>

namespace ng {

inline constexpr int64_t kLanes = 16;
inline constexpr int64_t kTurn = 32;  // positions that attention sums in one chain

float lanes_sum(const float* x, int64_t n);  // lanes(x, 1): plain additions
float lanes_dot(const float* a, const float* b, int64_t n);

// One step of `n` chains: acc[i] = fma(scale, x[i], acc[i]).
void add_scaled(float scale, const float* x, int64_t n, float* acc);

// `rows` × 16 chains over k: out[r · out_stride + j] = chain of a[r · k + i], panel[i · 16 + j];
// only the first `width` of 16 outputs are stored.
struct PanelProduct {
  const float* a;      // [rows, k]
  const float* panel;  // [k, 16]
  float* out;
  int64_t rows, k, width, out_stride;
};
void multiply_panel(const PanelProduct& product);

}  // namespace ng
