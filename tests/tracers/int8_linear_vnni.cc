// The int8 linear on AVX-512 VNNI: 16 outputs in a register, four products of each a cycle.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own header: its bug 105593
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "int8_linear.h"

namespace ng::tracer {
namespace {

inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1);
}
inline int64_t groups(const Int8Linear& l) { return (l.k + 3) / 4; }

// p + 128, and 128 (a zero) beyond k.
void quantize_row(const Int8Linear& l, int64_t row) {
  const float* a = l.a + row * l.k;
  uint8_t* out = l.quantized + row * groups(l) * 4;
  __m512 most = _mm512_setzero_ps();
  for (int64_t i = 0; i < l.k; i += 16) {
    most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(first(l.k - i), a + i)));
  }
  const float scale = _mm512_reduce_max_ps(most) / 127.0f;
  l.row_scales[row] = scale;
  const __m512 divisor = _mm512_set1_ps(scale > 0 ? scale : 1.0f);
  for (int64_t i = 0; i < groups(l) * 4; i += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(first(l.k - i), a + i);
    const __m512i p = _mm512_cvtps_epi32(_mm512_div_ps(x, divisor));  // to nearest even
    const __m512i shifted = _mm512_add_epi32(p, _mm512_set1_epi32(128));
    _mm512_mask_cvtepi32_storeu_epi8(out + i, first(groups(l) * 4 - i), shifted);
  }
}

void finish(const Int8Linear& l, int64_t row, int64_t panel, __m512i sum) {
  const int64_t j = panel * 16;
  const __mmask16 mask = first(l.n - j);
  const __m512i acc = _mm512_sub_epi32(sum, _mm512_loadu_si512(l.correction + j));
  if (l.accumulators) _mm512_mask_storeu_epi32(l.accumulators + row * l.n + j, mask, acc);
  const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_set1_ps(l.row_scales[row]));
  const __m512 y = _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(mask, l.scales + j));
  const __m512 out = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, l.bias + j));
  _mm512_mask_storeu_ps(l.out + row * l.n + j, mask, out);
}

template <int kRows, int kPanels>
void block(const Int8Linear& l, int64_t row, int64_t panel) {
  const int64_t steps = groups(l);
  const int8_t* weights = l.weights + panel * steps * 64;
  const uint8_t* a = l.quantized + row * steps * 4;
  __m512i sums[kRows][kPanels];
#pragma GCC unroll 8  // or g++ keeps the sums in memory
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < steps; ++i) {
    __m512i w[kPanels];
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) w[p] = _mm512_loadu_si512(weights + (p * steps + i) * 64);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + (r * steps + i) * 4, sizeof four);
      const __m512i x = _mm512_set1_epi32(four);
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], x, w[p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) finish(l, row + r, panel + p, sums[r][p]);
  }
}

// Panels [panel, panel + kPanels) of all rows: their weights stay in the nearest cache.
template <int kPanels>
void panels(const Int8Linear& l, int64_t panel) {
  int64_t row = 0;
  for (; row + 8 <= l.rows; row += 8) block<8, kPanels>(l, row, panel);
  for (; row + 4 <= l.rows; row += 4) block<4, kPanels>(l, row, panel);
  for (; row < l.rows; ++row) block<1, kPanels>(l, row, panel);
}

}  // namespace

bool int8_linear_supported() noexcept {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
}

void int8_linear(const Int8Linear& l) noexcept {
  for (int64_t row = 0; row < l.rows; ++row) quantize_row(l, row);
  const int64_t all = (l.n + 15) / 16;
  int64_t panel = 0;
  for (; panel + 8 <= all && l.rows < 4; panel += 8) {
    for (int64_t row = 0; row < l.rows; ++row) block<1, 8>(l, row, panel);
  }
  for (; panel + 3 <= all; panel += 3) panels<3>(l, panel);
  for (; panel < all; ++panel) panels<1>(l, panel);
}

}  // namespace ng::tracer
