#include "tensor/dtype.h"

#include <bit>

namespace ng {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  size_t bytes;
  bool is_float;
};
constexpr Row kRows[] = {
    {DType::f32, "f32", 4, true},  {DType::f16, "f16", 2, true},  {DType::bf16, "bf16", 2, true},
    {DType::f64, "f64", 8, true},  {DType::s8, "s8", 1, false},   {DType::u8, "u8", 1, false},
    {DType::s32, "s32", 4, false}, {DType::s64, "s64", 8, false},
};

const Row& row(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

size_t byte_size(DType dtype) { return row(dtype).bytes; }
std::string_view name(DType dtype) { return row(dtype).name; }
bool is_float(DType dtype) { return row(dtype).is_float; }

bool dtype_from_name(std::string_view text, DType& dtype) {
  for (const Row& candidate : kRows) {
    if (candidate.name == text) {
      dtype = candidate.dtype;
      return true;
    }
  }
  return false;
}

uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // rounds past 65504
  if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 makes the hardware round at bit 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000U));
  }
  const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

}  // namespace ng
