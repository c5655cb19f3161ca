#include <cmath>
#include <limits>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

Tensor apply(Op op, const std::vector<Tensor>& inputs) {
  return run(inputs, [&](Graph& g, auto& in) { return std::vector{elementwise(g, op, in)}; })[0];
}

TEST(Interpret, UnaryFloatsFollowMathematics) {
  struct Row {
    Op op;
    double (*function)(double);
    double tolerance;
  };
  const Row rows[] = {{Op::exp, std::exp, 2e-7},   {Op::log, std::log, 2e-7},
                      {Op::sqrt, std::sqrt, 1e-7}, {Op::erf, std::erf, 3e-7},
                      {Op::sin, std::sin, 3e-7},   {Op::cos, std::cos, 3e-7}};
  Random random(1);
  for (const Row& row : rows) {
    std::vector<float> x = items<float>(random_f32(random, {7, 31}, 3.0F));
    if (row.op == Op::log || row.op == Op::sqrt) {
      for (float& value : x) value = std::abs(value) + 1e-3F;
    }
    std::vector<double> expected;
    for (const float value : x) expected.push_back(row.function(value));
    expect_close(apply(row.op, {f32({7, 31}, x)}), expected, row.tolerance);
  }
}

TEST(Interpret, BinaryFloatsRoundOnce) {
  Random random(2);
  const Tensor a = random_f32(random, {5, 3}), b = random_f32(random, {5, 3});
  const std::vector<float> x = items<float>(a), y = items<float>(b);
  const auto expect = [&](Op op, auto function) {
    std::vector<float> expected;
    for (size_t i = 0; i < x.size(); ++i) expected.push_back(function(x[i], y[i]));
    EXPECT_EQ(items<float>(apply(op, {a, b})), expected) << row(op).name;
  };
  expect(Op::add, [](float p, float q) { return p + q; });
  expect(Op::subtract, [](float p, float q) { return p - q; });
  expect(Op::multiply, [](float p, float q) { return p * q; });
  expect(Op::divide, [](float p, float q) { return p / q; });
  expect(Op::maximum, [](float p, float q) { return std::max(p, q); });
  expect(Op::minimum, [](float p, float q) { return std::min(p, q); });
}

TEST(Interpret, IntegersWrapAndDivisionIsTotal) {
  constexpr int32_t low = std::numeric_limits<int32_t>::min();
  const Tensor a = s32({4}, {7, low, low, 5}), b = s32({4}, {-2, -1, 1, 0});
  EXPECT_EQ(items<int32_t>(apply(Op::divide, {a, b})), (std::vector<int32_t>{-3, low, low, -1}));
  EXPECT_EQ(items<int32_t>(apply(Op::add, {a, b})),
            (std::vector<int32_t>{5, std::numeric_limits<int32_t>::max(), low + 1, 5}));
  EXPECT_EQ(items<int32_t>(apply(Op::subtract, {a, b})),
            (std::vector<int32_t>{9, low + 1, std::numeric_limits<int32_t>::max(), 5}));
  EXPECT_EQ(items<int32_t>(apply(Op::multiply, {a, b})), (std::vector<int32_t>{-14, low, low, 0}));
  EXPECT_EQ(items<int32_t>(apply(Op::maximum, {a, b})), (std::vector<int32_t>{7, -1, 1, 5}));
  EXPECT_EQ(items<int32_t>(apply(Op::minimum, {a, b})), (std::vector<int32_t>{-2, low, low, 0}));
}

TEST(Interpret, SelectLessTakesTheFirstOnlyWhereStrictlyLess) {
  const Tensor a = s32({3}, {1, 2, 3}), b = s32({3}, {2, 2, 2});
  const auto choose = [](Graph& g, auto& in) {
    return std::vector{select_less(g, in[0], in[1], in[2], in[3])};
  };
  const Tensor yes = f32({3}, {1, 2, 3}), no = f32({3}, {-1, -2, -3});
  EXPECT_EQ(items<float>(run({a, b, yes, no}, choose)[0]), (std::vector<float>{1, -2, -3}));
  const Tensor y8 = Tensor::of<int8_t>(DType::s8, {3}, std::vector<int8_t>{1, 2, 3});
  const Tensor n8 = Tensor::of<int8_t>(DType::s8, {3}, std::vector<int8_t>{4, 5, 6});
  EXPECT_EQ(items<int8_t>(run({a, b, y8, n8}, choose)[0]), (std::vector<int8_t>{1, 5, 6}));
}

Tensor converted(const Tensor& x, DType dtype) {
  return run({x}, [&](Graph& g, auto& in) { return std::vector{convert(g, in[0], dtype)}; })[0];
}

TEST(Interpret, ConvertRoundsFloatsToNearestEven) {
  const std::vector<float> x = {1.0F, 1.00390625F, 1.01171875F, -3.1415927F, 1e-45F};
  std::vector<uint16_t> expected;
  for (const float value : x) expected.push_back(f32_to_bf16(value));
  EXPECT_EQ(expected[1], 0x3F80);  // a tie, down to even
  EXPECT_EQ(expected[2], 0x3F82);  // a tie, up to even
  EXPECT_EQ(items<uint16_t>(converted(f32({5}, x), DType::bf16)), expected);
  expected.clear();
  for (const float value : x) expected.push_back(f32_to_f16(value));
  EXPECT_EQ(items<uint16_t>(converted(f32({5}, x), DType::f16)), expected);
}

TEST(Interpret, ConvertWidensExactly) {
  const Tensor half = Tensor::of<uint16_t>(DType::f16, {2}, std::vector<uint16_t>{0x3C00, 0x0001});
  EXPECT_EQ(items<float>(converted(half, DType::f32)), (std::vector<float>{1.0F, 0x1p-24F}));
  const Tensor brain = Tensor::of<uint16_t>(DType::bf16, {2}, std::vector<uint16_t>{0xC0A0, 1});
  EXPECT_EQ(items<float>(converted(unaligned(brain), DType::f32)),
            (std::vector<float>{-5.0F, 0x1p-133F}));
  const Tensor wide = Tensor::of<int64_t>(DType::s64, {1}, std::vector<int64_t>{1LL << 40});
  EXPECT_EQ(items<double>(converted(wide, DType::f64)), std::vector<double>{0x1p40});
}

TEST(Interpret, ConvertToIntegersTruncatesAndSaturates) {
  const Tensor x = f32({6}, {2.9F, -2.9F, 1e20F, -1e20F, std::nanf(""), 300.0F});
  EXPECT_EQ(items<int32_t>(converted(x, DType::s32)),
            (std::vector<int32_t>{2, -2, 2147483647, -2147483647 - 1, 0, 300}));
  EXPECT_EQ(items<int8_t>(converted(x, DType::s8)),
            (std::vector<int8_t>{2, -2, 127, -128, 0, 127}));
  EXPECT_EQ(items<uint8_t>(converted(x, DType::u8)), (std::vector<uint8_t>{2, 0, 255, 0, 0, 255}));
  EXPECT_EQ(items<int64_t>(converted(x, DType::s64))[2], std::numeric_limits<int64_t>::max());
}

TEST(Interpret, LeavesHaveTheirValues) {
  const std::vector<Tensor> out = run({}, [](Graph& g, auto&) {
    return std::vector{constant(g, {1.5, -2.5}, {DType::f32, {2}}),
                       constant(g, {7}, {DType::s32, {}}), iota(g, {DType::s32, {2, 3, 2}}, 1),
                       frequencies(g, 5)};
  });
  EXPECT_EQ(items<float>(out[0]), (std::vector<float>{1.5F, -2.5F}));
  EXPECT_EQ(items<int32_t>(out[1]), std::vector<int32_t>{7});
  EXPECT_EQ(items<int32_t>(out[2]), (std::vector<int32_t>{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2}));
  std::vector<double> expected;
  for (int j = 0; j < 5; ++j) expected.push_back(std::exp(-std::log(10000.0) / 4 * j));
  expect_close(out[3], expected, 1e-6);
}

TEST(Interpret, ACountedIotaIsAsLongAsTheCount) {
  const Dim rows(9, Count::rows);
  const Graph graph = graph_of({{DType::s32, {rows}}}, [&](Graph& g, auto& in) {
    return std::vector{elementwise(g, Op::add, {in[0], iota(g, {DType::s32, {rows}}, 0)})};
  });
  EXPECT_EQ(items<int32_t>(run_graph(graph, {s32({3}, {5, 5, 5})})[0]),
            (std::vector<int32_t>{5, 6, 7}));
}

}  // namespace
}  // namespace ng::testing
