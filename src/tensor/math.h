// Our own exp, log, erf, sin and cos in float: the same bits on every machine and in every kernel.
//
// Float arithmetic, std::fma and bit moves only; errors in units in the last place are in
// docs/numerics.md and tested in math_test.cc.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace ng {

namespace scalar {
using V = float;
inline V fma(V a, V b, V c) { return std::fma(a, b, c); }
inline V min(V a, V b) { return a < b ? a : b; }  // b when one is NaN, as minps
inline V max(V a, V b) { return a > b ? a : b; }
inline bool less(V a, V b) { return a < b; }
inline V select(bool condition, V yes, V no) { return condition ? yes : no; }
inline bool bit(V x, int i) { return std::bit_cast<uint32_t>(x) >> i & 1; }
// y · 2^n with one rounding, t = n + 1.5 · 2^23, |n| ≤ 252.
inline V ldexp(V y, V t) {
  const auto n = static_cast<int32_t>(std::bit_cast<uint32_t>(t) - 0x4b400000u);
  const auto power = [](int32_t e) {
    return std::bit_cast<float>(static_cast<uint32_t>(e + 127) << 23);
  };
  return y * power(n >> 1) * power(n - (n >> 1));
}
#include "tensor/math.inc"
}  // namespace scalar

inline float exp_f32(float x) { return scalar::exp(x); }  // ≤ 1 ulp; -inf → 0, inf → inf
inline float erf_f32(float x) { return scalar::erf(x); }  // ≤ 2 ulp
inline float sin_f32(float x) { return scalar::sin(x); }  // |x| ≤ 10^5: absolute ≤ 1.2e-7
inline float cos_f32(float x) { return scalar::cos(x); }
inline float gelu_f32(float x) { return scalar::gelu(x); }  // 0.5 · x · (1 + erf(x / √2))
inline float silu_f32(float x) { return scalar::silu(x); }  // x / (1 + e^-x)
float log_f32(float x);                                     // ≤ 1 ulp; 0 → -inf, x < 0 → NaN

// The sinusoidal position table's frequencies as transformers has them for d = 2 · f.size() or
// d = 2 · f.size() + 1: f[j] = e^a, a = j · -c, c = log(10000) / (f.size() - 1), a in float.
void sinusoidal_frequencies(std::span<float> f);

}  // namespace ng
