// Element types and the exact conversions between them.
#pragma once

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

float f16_to_f32(uint16_t bits);    // exact; NaN keeps its payload's top bits
float bf16_to_f32(uint16_t bits);   // exact
uint16_t f32_to_bf16(float value);  // nearest, ties to even; NaN stays NaN
uint16_t f32_to_f16(float value);   // nearest, ties to even; overflow to infinity

}  // namespace ng
