// Are our exp, log, erf, sin and cos as close as docs/numerics.md says, over all floats?
#include "tensor/math.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace ng {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

// |value - exact| in units of the last place of the exact result (the subnormals' for small ones).
double error_in_ulp(float value, double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::fabs(value - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

// The worst error over every 1021st float in [lowest, highest] whose result is finite.
double worst_ulp(float (*ours)(float), double (*exact)(double), float lowest, float highest) {
  double worst = 0;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 1021) {
    const float x = from_bits(static_cast<uint32_t>(bits));
    if (!(x >= lowest && x <= highest)) continue;
    const double error = error_in_ulp(ours(x), exact(x));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

TEST(Math, ExpIsWithinOneUlp) {
  EXPECT_LE(worst_ulp(exp_f32, std::exp, -200.0f, 0x1.62e42ep6f), 0.9);
  for (const float x : {0x1.62e43p6f, 89.0f, 1e4f, kInfinity}) EXPECT_EQ(exp_f32(x), kInfinity);
  for (const float x : {-103.98f, -105.0f, -1e30f, -kInfinity}) EXPECT_EQ(exp_f32(x), 0.0f);
  EXPECT_EQ(exp_f32(-103.9f), 0x1p-149f);
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(exp_f32(std::nanf(""))));
}

TEST(Math, LogIsWithinOneUlp) {
  EXPECT_LE(worst_ulp(log_f32, std::log, 0x1p-149f, 0x1.fffffep127f), 0.95);
  EXPECT_EQ(log_f32(0.0f), -kInfinity);
  EXPECT_EQ(log_f32(kInfinity), kInfinity);
  EXPECT_EQ(log_f32(1.0f), 0.0f);
  EXPECT_TRUE(std::isnan(log_f32(-1.0f)));
  EXPECT_TRUE(std::isnan(log_f32(std::nanf(""))));
}

TEST(Math, ErfIsWithinTwoUlp) {
  EXPECT_LE(worst_ulp(erf_f32, std::erf, -kInfinity, kInfinity), 1.2);
  EXPECT_TRUE(std::isnan(erf_f32(std::nanf(""))));
}

TEST(Math, SinAndCosAreExactToTheLastBitsOfOne) {
  double worst = 0;
  for (uint32_t bits = 0; bits <= 0x47c35000u; bits += 509) {  // 0 … 10^5
    for (const float x : {from_bits(bits), -from_bits(bits)}) {
      worst = std::max(worst, std::fabs(sin_f32(x) - std::sin(double{x})));
      worst = std::max(worst, std::fabs(cos_f32(x) - std::cos(double{x})));
    }
  }
  EXPECT_LE(worst, 1.2e-7);
  EXPECT_EQ(sin_f32(0.0f), 0.0f);
  EXPECT_EQ(cos_f32(0.0f), 1.0f);
}

TEST(Math, GeluAndSiluFollowTheirFormulas) {
  for (float x = -12.0f; x < 12.0f; x += 0.0137f) {
    const double gelu = 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    EXPECT_NEAR(gelu_f32(x), gelu, 2e-7 * std::max(1.0f, std::fabs(x))) << x;
    EXPECT_NEAR(silu_f32(x), x / (1 + std::exp(-double{x})), 2e-7 * std::max(1.0f, std::fabs(x)))
        << x;
  }
  EXPECT_EQ(silu_f32(-1e4f), 0.0f);
  EXPECT_EQ(gelu_f32(30.0f), 30.0f);
}

// The expected values and the hash (FNV-1a over the 32-bit words) come from PyTorch 2.13.0.
TEST(Math, FrequenciesHaveTheBitsOfPyTorch) {
  std::vector<float> f(512);
  sinusoidal_frequencies(f);
  EXPECT_EQ(f[0], 1.0f);
  EXPECT_EQ(f[1], 0x1.f6dab4p-1f);
  EXPECT_EQ(f[256], 0x1.44bd78p-7f);
  EXPECT_EQ(f[511], 0x1.a36e2cp-14f);
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t half = 2; half <= 2048; ++half) {
    f.resize(half);
    sinusoidal_frequencies(f);
    for (const float value : f) hash = (hash ^ std::bit_cast<uint32_t>(value)) * 0x100000001b3;
  }
  EXPECT_EQ(hash, 0x48558c1558d0a117);
}

TEST(Math, OneFrequencyIsOne) {
  float f = 0;
  sinusoidal_frequencies({&f, 1});
  EXPECT_EQ(f, 1.0f);
}

}  // namespace
}  // namespace ng
