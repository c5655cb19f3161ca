// Element types and the exact conversions between them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ng {

// Names as in the literature and in graph text. s8 and s32 are what XLA calls them.
enum class DType : uint8_t { f32, f16, bf16, f64, s8, u8, s32, s64 };

inline constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::f64,
                                    DType::s8,  DType::u8,  DType::s32,  DType::s64};

size_t byte_size(DType dtype);
std::string_view name(DType dtype);
bool dtype_from_name(std::string_view text, DType& dtype);
bool is_float(DType dtype);

// Whole checkpoints go through these, in loops that become vectors.
inline float bf16_to_f32(uint16_t bits) {  // exact
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
inline uint16_t f32_to_bf16(float value) {  // nearest, ties to even; NaN stays NaN
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? (bits >> 16) | 0x40U : rounded);
}
inline float f16_to_f32(uint16_t bits) {  // exact; NaN keeps its payload's top bits
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1FU, fraction = bits & 0x3FFU;
  // Zero and subnormals: fraction · 2^-24, exact in float.
  const float subnormal = static_cast<float>(static_cast<int32_t>(fraction)) * 0x1p-24F;
  const uint32_t normal = (exponent == 0x1F ? 0xFFU : exponent + 112) << 23 | (fraction << 13);
  return std::bit_cast<float>(sign | (exponent == 0 ? std::bit_cast<uint32_t>(subnormal) : normal));
}
uint16_t f32_to_f16(float value);  // nearest, ties to even; overflow to infinity

}  // namespace ng
