// 16 floats in an array: plain C++ for every CPU, and what the tests hold the others to.
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace ng {
namespace {

struct V {
  float x[16];
  V() = default;
  explicit V(float value) {
    for (float& lane : x) lane = value;
  }
};

struct Mask {
  bool x[16];
};

template <class F>
inline V each(F f) {
  V v;
  for (int i = 0; i < 16; ++i) v.x[i] = f(i);
  return v;
}

template <class F>
inline Mask each_bool(F f) {
  Mask m;
  for (int i = 0; i < 16; ++i) m.x[i] = f(i);
  return m;
}

inline float widened(uint16_t x) { return __builtin_bit_cast(float, uint32_t{x} << 16); }
inline uint32_t bits(float x) { return __builtin_bit_cast(uint32_t, x); }

inline V load(const float* x) {
  return each([=](int i) { return x[i]; });
}
inline V load(const uint16_t* x) {
  return each([=](int i) { return widened(x[i]); });
}
inline V load(const float* x, int64_t n) {
  return each([=](int i) { return i < n ? x[i] : 0.0f; });
}
inline void store(float* x, const V& v, int64_t n = 16) {
  for (int i = 0; i < 16 && i < n; ++i) x[i] = v.x[i];
}
inline void prefetch(const void*) {}

inline V operator+(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] + b.x[i]; });
}
inline V operator-(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] - b.x[i]; });
}
inline V operator*(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] * b.x[i]; });
}
inline V operator/(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] / b.x[i]; });
}
inline V fma(const V& a, const V& b, const V& c) {
  return each([&](int i) { return __builtin_fmaf(a.x[i], b.x[i], c.x[i]); });
}
inline V sqrt(const V& a) {
  return each([&](int i) { return __builtin_sqrtf(a.x[i]); });
}
inline V min(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] < b.x[i] ? a.x[i] : b.x[i]; });
}
inline V max(const V& a, const V& b) {
  return each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
}

inline Mask less(const V& a, const V& b) {
  return each_bool([&](int i) { return a.x[i] < b.x[i]; });
}
inline Mask bit(const V& a, int n) {
  return each_bool([&](int i) { return (bits(a.x[i]) >> n & 1) != 0; });
}
inline V select(const Mask& m, const V& yes, const V& no) {
  return each([&](int i) { return m.x[i] ? yes.x[i] : no.x[i]; });
}
inline V first(const V& a, int64_t n) {
  return each([&](int i) { return i < n ? a.x[i] : 0.0f; });
}
inline uint32_t at_least(const V& a, const V& b) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<uint32_t>(a.x[i] >= b.x[i]) << i;
  return mask;
}

inline float power(int32_t n) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(n + 127) << 23);
}
inline V ldexp(const V& y, const V& t) {
  return each([&](int i) {
    const auto n = static_cast<int32_t>(bits(t.x[i]) - 0x4b400000u);
    return y.x[i] * power(n >> 1) * power(n - (n >> 1));
  });
}

inline float tree(V v) {
  for (int step = 8; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) v.x[i] += v.x[i + step];
  }
  return v.x[0];
}
inline void trees(const V (&v)[4], float* out) {
  for (int i = 0; i < 4; ++i) out[i] = tree(v[i]);
}
inline float highest(const V& v) {
  float top = v.x[0];
  for (const float x : v.x) top = x > top ? x : top;
  return top;
}

constexpr int kFewRows = 1, kManyPanels = 1;
constexpr int kRows = 4, kPanels = 1;

#include "kernels/body.inc"

bool supported() noexcept { return true; }

}  // namespace

extern const Kernels kGeneric;
const Kernels kGeneric = table("generic", supported);

}  // namespace ng
