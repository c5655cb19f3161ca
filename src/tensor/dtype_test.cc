// The conversions are those of IEEE 754, value by value.
#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ng {
namespace {

float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
uint32_t to_bits(float value) { return std::bit_cast<uint32_t>(value); }

// A small float by its definition: (-1)^s · 2^(e - bias) · 1.f, and below e = 1 without the 1.
double by_definition(uint16_t bits, int fraction_bits, int exponent_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  const int significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias - fraction_bits);
}

struct Format {
  int fraction_bits, exponent_bits;
  float (*widen)(uint16_t);
  uint16_t (*round)(float);
};
const Format kFormats[] = {{10, 5, f16_to_f32, f32_to_f16}, {7, 8, bf16_to_f32, f32_to_bf16}};

TEST(DType, EveryHalfWidensToItsDefinition) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
      const auto half = static_cast<uint16_t>(bits);
      const double want = by_definition(half, format.fraction_bits, format.exponent_bits);
      const float got = format.widen(half);
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << bits;
        ASSERT_TRUE(std::isnan(format.widen(format.round(got)))) << bits;
      } else {
        ASSERT_EQ(to_bits(got), to_bits(static_cast<float>(want))) << bits;
        ASSERT_EQ(format.round(got), half) << bits;
      }
    }
  }
}

// Around every boundary: the midpoint of two neighbours goes to the even one, its own neighbours
// to the nearer one. A finite value and infinity are neighbours in this sense.
TEST(DType, EveryMidpointRoundsToEven) {
  for (const Format& format : kFormats) {
    const auto infinity =
        static_cast<uint16_t>(((1 << format.exponent_bits) - 1) << format.fraction_bits);
    for (uint16_t low = 0; low < infinity; ++low) {
      const auto high = static_cast<uint16_t>(low + 1);
      const double above = high == infinity
                               ? std::ldexp(1.0, 1 << (format.exponent_bits - 1))
                               : by_definition(high, format.fraction_bits, format.exponent_bits);
      const double below = by_definition(low, format.fraction_bits, format.exponent_bits);
      const auto middle = static_cast<float>((below + above) / 2);
      ASSERT_EQ(static_cast<double>(middle), (below + above) / 2);
      const float under = from_bits(to_bits(middle) - 1);
      const float over = from_bits(to_bits(middle) + 1);
      for (const uint16_t sign : {0, 0x8000}) {
        const float s = sign != 0 ? -1.0F : 1.0F;
        ASSERT_EQ(format.round(s * middle), sign | (low % 2 == 0 ? low : high)) << low;
        ASSERT_EQ(format.round(s * under), sign | low) << low;
        ASSERT_EQ(format.round(s * over), sign | high) << low;
      }
    }
    EXPECT_EQ(format.round(INFINITY), infinity);
    EXPECT_EQ(format.round(-INFINITY), 0x8000 | infinity);
    EXPECT_EQ(format.round(3.4e38F), infinity);
    for (const uint32_t nan : {0x7F800001U, 0xFF800001U, 0x7FFFFFFFU, 0xFFC00000U}) {
      EXPECT_TRUE(std::isnan(format.widen(format.round(from_bits(nan)))));
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) uint16_t hardware_round(float value) {
  return static_cast<uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(value), 0), 0));
}

TEST(DType, F16RoundsAsTheHardwareDoes) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this CPU lacks f16c (and avx2)";
  for (uint64_t bits = 0; bits <= 0xFFFFFFFF; bits += 1009) {
    const float value = from_bits(static_cast<uint32_t>(bits));
    if (!std::isnan(value)) {
      ASSERT_EQ(f32_to_f16(value), hardware_round(value)) << bits;
    }
  }
}
#endif

TEST(DType, NamesAndSizesBelongTogether) {
  const std::vector<size_t> sizes = {4, 2, 2, 8, 1, 1, 4, 8};
  size_t i = 0;
  for (const DType dtype : kDTypes) {
    DType again = dtype == DType::f32 ? DType::s8 : DType::f32;
    EXPECT_TRUE(dtype_from_name(name(dtype), again));
    EXPECT_EQ(again, dtype);
    EXPECT_EQ(byte_size(dtype), sizes.at(i++));
    EXPECT_EQ(is_float(dtype), name(dtype).find('f') != std::string_view::npos);
  }
  DType untouched = DType::u8;
  EXPECT_FALSE(dtype_from_name("F32", untouched));
  EXPECT_FALSE(dtype_from_name("", untouched));
  EXPECT_EQ(untouched, DType::u8);
}

}  // namespace
}  // namespace ng
