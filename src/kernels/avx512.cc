// 16 floats in one AVX-512 register. The operations listed here are all that body.inc and the
// polynomials ask of V. No standard library: its templates compiled with these flags would leak.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own header: its bug 105593
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace ng {
namespace {

struct V {
  __m512 v;
  V() = default;
  explicit V(__m512 x) : v(x) {}
  explicit V(float x) : v(_mm512_set1_ps(x)) {}
};

inline __mmask16 lanes(int64_t n) {  // the first n
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1);
}
inline V load(const float* x) { return V(_mm512_loadu_ps(x)); }
inline V load(const uint16_t* x) {  // bf16
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)x));
  return V(_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
}
inline V load(const float* x, int64_t n) { return V(_mm512_maskz_loadu_ps(lanes(n), x)); }  // n ≥ 1
inline void store(float* x, V a) { _mm512_storeu_ps(x, a.v); }
inline void store(float* x, V a, int64_t n) { _mm512_mask_storeu_ps(x, lanes(n), a.v); }

inline V operator+(V a, V b) { return V(_mm512_add_ps(a.v, b.v)); }
inline V operator-(V a, V b) { return V(_mm512_sub_ps(a.v, b.v)); }
inline V operator*(V a, V b) { return V(_mm512_mul_ps(a.v, b.v)); }
inline V operator/(V a, V b) { return V(_mm512_div_ps(a.v, b.v)); }
inline V fma(V a, V b, V c) { return V(_mm512_fmadd_ps(a.v, b.v, c.v)); }
inline V sqrt(V a) { return V(_mm512_sqrt_ps(a.v)); }
inline V min(V a, V b) { return V(_mm512_min_ps(a.v, b.v)); }  // b when one is NaN
inline V max(V a, V b) { return V(_mm512_max_ps(a.v, b.v)); }

inline __mmask16 less(V a, V b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline V select(__mmask16 m, V yes, V no) { return V(_mm512_mask_blend_ps(m, no.v, yes.v)); }
inline __mmask16 bit(V x, int i) {
  return _mm512_test_epi32_mask(_mm512_castps_si512(x.v), _mm512_set1_epi32(1 << i));
}
inline uint32_t at_least(V a, V b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
inline V first(V x, int64_t n) { return V(_mm512_maskz_mov_ps(lanes(n), x.v)); }  // others 0
// y · 2^n, one rounding; n stands in the low bits of t = n + 1.5 · 2^23.
inline V ldexp(V y, V t) {
  return V(_mm512_scalef_ps(y.v, _mm512_sub_ps(t.v, _mm512_set1_ps(0x1.8p23f))));
}

// l[i] += l[i+8], l[i] += l[i+4]: what is left of the tree is two more additions.
inline __m128 folded(V x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}
inline float highest(V x) { return _mm512_reduce_max_ps(x.v); }

constexpr int kFewRows = 4, kManyPanels = 2;
constexpr int kRows = 8, kPanels = 3;

#include "kernels/x86.inc"

#include "kernels/body.inc"

bool supported() noexcept {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}

}  // namespace

extern const Kernels kAvx512;
const Kernels kAvx512 = table("avx512", supported);

}  // namespace ng
