// Types print as in graph text, and sizes that overflow are seen.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ng {
namespace {

TEST(Type, PrintsAsInGraphText) {
  EXPECT_EQ(to_string(Type{DType::f32, {}}), "f32[]");
  EXPECT_EQ(to_string(Type{DType::s32, {7}}), "s32[7]");
  EXPECT_EQ(to_string(Type{DType::bf16, {{4096, Count::tokens}, 256}}), "bf16[tokens<=4096,256]");
}

TEST(Type, EveryCountHasANameOfItsOwn) {
  for (const Count a : kCounts) {
    EXPECT_EQ(name(a).empty(), a == Count::none);
    for (const Count b : kCounts) EXPECT_EQ(name(a) == name(b), a == b);
  }
}

TEST(Type, AxesCountFromBothEnds) {
  const Type type = {DType::f32, {2, {3, Count::rows}, 5}};
  EXPECT_EQ(type.size(0), 2);
  EXPECT_EQ(type.size(-1), 5);
  EXPECT_EQ(type.size(-3), 2);
  EXPECT_THROW(type.size(3), Error);
  EXPECT_THROW(type.size(-4), Error);
  EXPECT_TRUE(type.counted());
  EXPECT_FALSE((Type{DType::f32, {2, 5}}).counted());
}

TEST(Type, CountsElementsAndBytesOrSaysThatTheyOverflow) {
  const Type type = {DType::bf16, {3, {5, Count::rows}}};
  EXPECT_EQ(element_count(type.shape), 15);
  EXPECT_EQ(byte_count(type), 30);
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({0, int64_t{1} << 62}), 0);
  EXPECT_EQ(byte_count({DType::s8, {int64_t{1} << 62}}), int64_t{1} << 62);
  EXPECT_THROW(byte_count({DType::f32, {int64_t{1} << 62}}), Error);
  EXPECT_THROW(element_count({int64_t{1} << 32, int64_t{1} << 31}), Error);
  EXPECT_THROW(element_count({-1}), Error);
}

TEST(Tensor, OwnsBytesOfItsTypesSize) {
  const std::vector<int32_t> values = {1, 2, 3, 4, 5, 6};
  const Tensor tensor = Tensor::of<int32_t>(DType::s32, {2, 3}, values);
  const Tensor copy = tensor;  // a value; the bytes are shared
  EXPECT_EQ(copy.data.data(), tensor.data.data());
  EXPECT_EQ(copy.data.size(), 24U);
  EXPECT_EQ(std::to_integer<int>(copy.data[20]), 6);
  EXPECT_THROW(Tensor::of<int32_t>(DType::s32, {2, 2}, values), Error);
  EXPECT_THROW(Tensor::own({DType::f32, {1}}, std::vector<std::byte>(5)), Error);
}

}  // namespace
}  // namespace ng
