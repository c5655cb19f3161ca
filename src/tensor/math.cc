// The parts of our mathematics that are not needed in a loop.
#include "tensor/math.h"

#include <array>
#include <limits>

namespace ng {

// log(m · 2^e) = e · ln 2 + log1p(f), f = m - 1 in [√½ - 1, √2 - 1], ln 2 in two parts;
// log1p(f) = f + f² · (f · p(f) - ½).
float log_f32(float x) {
  constexpr float p[] = {0x1.555546p-2f,  -0x1.ffffeep-3f, 0x1.99a542p-3f,
                         -0x1.5562dep-3f, 0x1.233304p-3f,  -0x1.fb4446p-4f,
                         0x1.e64e08p-4f,  -0x1.e2e1ep-4f,  0x1.1b3e9ap-4f};
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!(x > 0)) return x == 0 ? -kInfinity : std::numeric_limits<float>::quiet_NaN();
  if (x == kInfinity) return x;
  const bool subnormal = x < 0x1p-126f;
  const uint32_t bits = std::bit_cast<uint32_t>(subnormal ? x * 0x1p23f : x);
  const int32_t e = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // √½ has these bits
  const float f = std::bit_cast<float>(bits - (static_cast<uint32_t>(e) << 23)) - 1.0f;
  const float n = static_cast<float>(subnormal ? e - 23 : e);
  const float q = std::fma(f, scalar::polynomial(f, p, 8), -0.5f);
  const float log1p = std::fma(f * f, q, std::fma(n, 0x1.7f7d1cp-20f, f));
  return std::fma(n, 0x1.62e4p-1f, log1p);
}

namespace {

struct Split {
  float high, low;
};

// 2^(j / 128) in two floats, by the series of e^(j · ln 2 / 128) in double.
Split root_of_two(int j) {
  const double x = j * (0x1.62e42fefa39efp-1 / 128);
  double term = 1, sum = 1;
  for (int i = 1; i <= 24; ++i) sum += term *= x / i;
  const auto high = static_cast<float>(sum);
  return {high, static_cast<float>(sum - high)};
}

// e^x as PyTorch computes it on x86 (error ≤ 0.56 ulp), for -87 ≤ x ≤ 0, every operation rounded
// once: x = n · ln 2 / 128 + r, e^x = 2^(n / 128) · (1 + (r + r² / 2)).
float exp_of_pytorch(float x, std::span<const Split, 128> roots) {
  const float n = (x * (128 * 0x1.715476p0f) + scalar::kRound) - scalar::kRound;
  const float r = (x - n * 0x1.63p-8f) - n * -0x1.bd0106p-20f;
  const float p = r + 0.5f * (r * r);
  const int k = static_cast<int>(n);
  const Split root = roots[k & 127];
  return scalar::ldexp(root.high + (root.high * p + root.low),
                       static_cast<float>(k >> 7) + scalar::kRound);
}

}  // namespace

void sinusoidal_frequencies(std::span<float> f) {
  std::array<Split, 128> roots;
  for (int j = 0; j < 128; ++j) roots[j] = root_of_two(j);
  constexpr double kLog10000 = 0x1.26bb1bbb55516p3;
  const double c = f.size() > 1 ? kLog10000 / static_cast<double>(f.size() - 1) : 0;
  for (size_t j = 0; j < f.size(); ++j) {
    f[j] = exp_of_pytorch(static_cast<float>(j) * static_cast<float>(-c), roots);
  }
}

}  // namespace ng
