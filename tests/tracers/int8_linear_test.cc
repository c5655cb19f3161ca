// Does a linear quantised at preparation give, on VNNI, the bits that int8_linear.h promises?
#include "int8_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "ir/build.h"
#include "ir/interpret.h"
#include "passes/passes.h"

namespace ng::tracer {
namespace {

// What `prepare` would leave in the bundle.
struct Prepared {
  std::vector<int8_t> plain, packed;  // [n, k]; in panels
  std::vector<float> scales, bias;
  std::vector<int32_t> correction;
  int64_t n = 0, k = 0;
};

std::span<const float> floats(const Tensor& tensor) {
  return {reinterpret_cast<const float*>(tensor.data.data()), tensor.data.size() / sizeof(float)};
}

Prepared quantize(const Tensor& matrix, const Tensor& bias, int offset = 128) {
  Prepared made;
  made.n = matrix.type.size(0);
  made.k = matrix.type.size(1);
  const int64_t groups = (made.k + 3) / 4, panels = (made.n + 15) / 16;
  made.plain.resize(static_cast<size_t>(made.n * made.k));
  made.packed.resize(static_cast<size_t>(panels * groups * 64));
  made.correction.resize(static_cast<size_t>(panels * 16));
  made.bias.assign(floats(bias).begin(), floats(bias).end());
  for (int64_t j = 0; j < made.n; ++j) {
    const auto row =
        floats(matrix).subspan(static_cast<size_t>(j * made.k), static_cast<size_t>(made.k));
    float most = 0;
    for (const float w : row) most = std::max(most, std::abs(w));
    const float scale = most / 127.0F;
    made.scales.push_back(scale);
    int32_t sum = 0;
    for (int64_t i = 0; i < made.k; ++i) {
      const float w = row[static_cast<size_t>(i)];
      const auto q = static_cast<int8_t>(scale > 0 ? std::nearbyint(w / scale) : 0);
      made.plain[static_cast<size_t>(j * made.k + i)] = q;
      const int64_t panel = j / 16 * groups + i / 4;
      made.packed[static_cast<size_t>(panel * 64 + j % 16 * 4 + i % 4)] = q;
      sum += q;
    }
    made.correction[static_cast<size_t>(j)] = offset * sum;
  }
  return made;
}

struct Result {
  std::vector<int32_t> accumulators;
  std::vector<float> out;
};

// int8_linear.h's formulas, word for word.
Result interpret_int8(const Prepared& w, std::span<const float> a, int64_t rows) {
  Result result;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = a.subspan(static_cast<size_t>(r * w.k), static_cast<size_t>(w.k));
    float most = 0;
    for (const float x : row) most = std::max(most, std::abs(x));
    const float scale = most / 127.0F;
    for (int64_t j = 0; j < w.n; ++j) {
      int64_t acc = 0;
      for (int64_t i = 0; i < w.k; ++i) {
        const float p = scale > 0 ? std::nearbyint(row[static_cast<size_t>(i)] / scale) : 0.0F;
        acc += static_cast<int64_t>(p) * w.plain[static_cast<size_t>(j * w.k + i)];
      }
      const auto column = static_cast<size_t>(j);
      result.accumulators.push_back(static_cast<int32_t>(acc));
      const float scaled = static_cast<float>(acc) * scale * w.scales[column];
      result.out.push_back(scaled + w.bias[column]);
    }
  }
  return result;
}

Result run_vnni(const Prepared& w, std::span<const float> a, int64_t rows) {
  Result result;
  result.accumulators.resize(static_cast<size_t>(rows * w.n));
  result.out.resize(result.accumulators.size());
  std::vector<uint8_t> quantized(static_cast<size_t>(rows * ((w.k + 3) / 4 * 4)));
  std::vector<float> row_scales(static_cast<size_t>(rows));
  Int8Linear l = {};
  l.a = a.data();
  l.weights = w.packed.data();
  l.scales = w.scales.data();
  l.correction = w.correction.data();
  l.bias = w.bias.data();
  l.out = result.out.data();
  l.accumulators = result.accumulators.data();
  l.quantized = quantized.data();
  l.row_scales = row_scales.data();
  l.rows = rows;
  l.k = w.k;
  l.n = w.n;
  int8_linear(l);
  return result;
}

bool same_bits(const Result& a, const Result& b) {
  return a.accumulators == b.accumulators &&
         std::memcmp(a.out.data(), b.out.data(), a.out.size() * sizeof(float)) == 0;
}

Tensor random_tensor(Shape shape, std::mt19937& random, bool extreme = false) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (float& value : values) {
    value = normal(random);
    if (random() % 100 == 0) value *= 30;  // outliers
    if (extreme) value = random() % 4 == 0 ? -1.0F : 1.0F;
  }
  return Tensor::of<float>(DType::f32, std::move(shape), values);
}

class Int8LinearTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!int8_linear_supported()) GTEST_SKIP() << "this CPU lacks avx512_vnni";
  }
  std::mt19937 random_{7};
};

TEST_F(Int8LinearTest, GivesTheFormulasBits) {
  for (int round = 0; round < 60; ++round) {
    const int64_t n = 1 + static_cast<int64_t>(random_() % 150);
    const int64_t k = 1 + static_cast<int64_t>(random_() % 200);
    const int64_t rows = 1 + static_cast<int64_t>(random_() % 14);
    const bool extreme = round % 5 == 0;
    const Prepared w =
        quantize(random_tensor({n, k}, random_, extreme), random_tensor({n}, random_));
    const Tensor a = random_tensor({rows, k}, random_, extreme);
    ASSERT_TRUE(same_bits(interpret_int8(w, floats(a), rows), run_vnni(w, floats(a), rows)))
        << rows << " rows, k " << k << ", n " << n;
  }
}

TEST_F(Int8LinearTest, RowsOfZerosGiveTheBias) {
  const Tensor zeros = Tensor::of<float>(DType::f32, {20, 9}, std::vector<float>(180));
  const Prepared w = quantize(random_tensor({20, 9}, random_), random_tensor({20}, random_));
  const Prepared none = quantize(zeros, random_tensor({20}, random_));
  EXPECT_EQ(run_vnni(w, floats(zeros).first(9), 1).out, w.bias);
  EXPECT_EQ(run_vnni(none, std::vector<float>(9, 1.0F), 1).out, none.bias);
}

// q, k and v of a layer: fuse joins them, `prepare` makes the matrix that is quantised.
TEST_F(Int8LinearTest, TakesAMatrixThatPrepareMade) {
  constexpr int64_t d = 64, rows = 5;
  Graph g("phase");
  const Value x = input(g, "x", {DType::f32, {{rows, Count::rows}, d}});
  std::map<std::string, Tensor> weights;
  for (const char* name : {"q", "k", "v"}) {
    const std::string called = name;
    weights[called + ".weight"] = random_tensor({d, d}, random_);
    weights[called + ".bias"] = random_tensor({d}, random_);
    const Value matrix = weight(g, called + ".weight", weights[called + ".weight"].type);
    const Value bias = weight(g, called + ".bias", weights[called + ".bias"].type);
    g.outputs.push_back({called, linear(g, {x, matrix, bias, {}}, d)});
  }
  LoweringOptions options;
  options.packed = false;
  const Split split = lower(g, options);
  Bindings bindings;
  bindings.weight = [&](const std::string& name) { return weights.at(name); };
  const auto made = interpret(split.prepare, bindings);
  const Prepared w = quantize(made.at("q.weight+2"), made.at("q.bias+2"));
  const Tensor a = random_tensor({rows, d}, random_);
  const Result found = run_vnni(w, floats(a), rows);
  EXPECT_TRUE(same_bits(interpret_int8(w, floats(a), rows), found));

  bindings.inputs["x"] = a;  // and it is the linear: within the error of eight bits
  const Tensor q = interpret(g, bindings).at("q");
  double square = 0, difference = 0;
  for (int64_t i = 0; i < rows * d; ++i) {
    const float exact = floats(q)[static_cast<size_t>(i)];
    const float ours = found.out[static_cast<size_t>(i / d * 3 * d + i % d)];
    square += static_cast<double>(exact) * exact;
    difference += static_cast<double>(exact - ours) * (exact - ours);
  }
  EXPECT_LT(std::sqrt(difference / square), 0.05);
}

TEST_F(Int8LinearTest, AWrongCorrectionIsFound) {
  const Tensor matrix = random_tensor({33, 50}, random_), bias = random_tensor({33}, random_);
  const Tensor a = random_tensor({3, 50}, random_);
  const Result expected = interpret_int8(quantize(matrix, bias), floats(a), 3);
  EXPECT_TRUE(same_bits(expected, run_vnni(quantize(matrix, bias), floats(a), 3)));
  EXPECT_FALSE(same_bits(expected, run_vnni(quantize(matrix, bias, 127), floats(a), 3)));
}

}  // namespace
}  // namespace ng::tracer
