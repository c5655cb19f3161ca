// 16 floats in two AVX2 registers; the same operations as in avx512.cc, and like it without the
// standard library.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace ng {
namespace {

struct V {
  __m256 a, b;
  V() = default;
  V(__m256 low, __m256 high) : a(low), b(high) {}
  explicit V(float x) : a(_mm256_set1_ps(x)), b(a) {}
};

struct Mask {  // by the lanes' sign bits
  __m256i a, b;
};

inline Mask lanes(int64_t n) {  // the first n < 16
  static constexpr int32_t kEdge[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                        -1, -1, -1, -1, -1, -1, -1, -1};
  const auto* edge = reinterpret_cast<const __m256i*>(kEdge + 16 - n);
  return {_mm256_loadu_si256(edge), _mm256_loadu_si256(edge + 1)};
}

inline V load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline V load(const uint16_t* x) {  // bf16
  const auto* half = reinterpret_cast<const __m128i*>(x);
  const __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(half));
  const __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128(half + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
inline V load(const float* x, int64_t n) {  // n ≥ 1
  if (n >= 16) return load(x);
  const Mask m = lanes(n);
  return {_mm256_maskload_ps(x, m.a), _mm256_maskload_ps(x + 8, m.b)};
}
inline void store(float* x, V v) {
  _mm256_storeu_ps(x, v.a);
  _mm256_storeu_ps(x + 8, v.b);
}
inline void store(float* x, V v, int64_t n) {
  if (n >= 16) return store(x, v);
  const Mask m = lanes(n);
  _mm256_maskstore_ps(x, m.a, v.a);
  _mm256_maskstore_ps(x + 8, m.b, v.b);
}

inline V operator+(V x, V y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline V operator-(V x, V y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline V operator*(V x, V y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline V operator/(V x, V y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline V fma(V x, V y, V z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline V sqrt(V x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
inline V min(V x, V y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline V max(V x, V y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }

inline Mask less(V x, V y) {
  return {_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
inline V select(Mask m, V yes, V no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(m.a)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(m.b))};
}
inline Mask bit(V x, int i) {
  return {_mm256_slli_epi32(_mm256_castps_si256(x.a), 31 - i),
          _mm256_slli_epi32(_mm256_castps_si256(x.b), 31 - i)};
}
inline uint32_t at_least(V x, V y) {
  const int a = _mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ));
  const int b = _mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ));
  return static_cast<uint32_t>(a | b << 8);
}
inline V first(V x, int64_t n) {  // others 0
  return n >= 16 ? x : select(lanes(n), x, V(0.0f));
}

inline __m256 power(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline __m256 ldexp(__m256 y, __m256 t) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
  const __m256i half = _mm256_srai_epi32(n, 1);
  return _mm256_mul_ps(_mm256_mul_ps(y, power(half)), power(_mm256_sub_epi32(n, half)));
}
// y · 2^n, one rounding; n stands in the low bits of t = n + 1.5 · 2^23.
inline V ldexp(V y, V t) { return {ldexp(y.a, t.a), ldexp(y.b, t.b)}; }

// l[i] += l[i+8], l[i] += l[i+4]: what is left of the tree is two more additions.
inline __m128 folded(V x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}
inline float highest(V x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

constexpr int kFewRows = 3, kManyPanels = 2;
constexpr int kRows = 6, kPanels = 1;

#include "kernels/x86.inc"

#include "kernels/body.inc"

bool supported() noexcept {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = table("avx2", supported);

}  // namespace ng
