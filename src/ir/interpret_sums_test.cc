#include <cmath>
#include <limits>
#include <numeric>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

// The orders of docs/numerics.md, spelled out once more.
float chain(const float* a, const float* b, int64_t n) {
  float acc = 0.0F;
  for (int64_t i = 0; i < n; ++i) acc = std::fma(a[i], b[i], acc);
  return acc;
}
float lanes(const std::vector<float>& x) {
  std::vector<float> lane(16);
  for (size_t i = 0; i < x.size(); ++i) lane[i % 16] += x[i];
  for (size_t i = 0; i < 8; ++i) lane[i] += lane[i + 8];
  for (size_t i = 0; i < 4; ++i) lane[i] += lane[i + 4];
  for (size_t i = 0; i < 2; ++i) lane[i] += lane[i + 2];
  return lane[0] + lane[1];
}

Tensor to_bf16(const Tensor& x) {
  return run({x},
             [](Graph& g, auto& in) { return std::vector{convert(g, in[0], DType::bf16)}; })[0];
}
Tensor widened(const Tensor& x) {
  return run({x}, [](Graph& g, auto& in) { return std::vector{convert(g, in[0], DType::f32)}; })[0];
}
Tensor product(const Tensor& a, const Tensor& b, ThreadPool* threads = nullptr) {
  const auto build = [](Graph& g, auto& in) { return std::vector{dot(g, in[0], in[1])}; };
  return run({a, b}, build, threads)[0];
}

TEST(Interpret, DotIsOneChainOverKAscending) {
  Random random(7);
  ThreadPool threads(3);
  for (int round = 0; round < 20; ++round) {
    const int64_t batch = pick(random, 1, 3), m = pick(random, 0, 9), n = pick(random, 1, 40);
    const int64_t k = pick(random, 0, 50);
    const Tensor a = random_f32(random, {batch, m, k}), b = random_f32(random, {batch, n, k});
    const std::vector<float> x = items<float>(a), y = items<float>(b);
    std::vector<float> expected;
    for (int64_t i = 0; i < batch * m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        expected.push_back(chain(x.data() + i * k, y.data() + (i / m * n + j) * k, k));
      }
    }
    EXPECT_EQ(items<float>(product(a, b)), expected);
    EXPECT_EQ(items<float>(product(unaligned(a), unaligned(b), &threads)), expected);
  }
}

TEST(Interpret, DotWidensABf16Matrix) {
  Random random(8);
  const Tensor a = random_f32(random, {3, 20}), b = to_bf16(random_f32(random, {18, 20}));
  EXPECT_TRUE(same_bytes(product(a, unaligned(b)), product(a, widened(b))));
  const Tensor half = to_bf16(a);
  EXPECT_TRUE(same_bytes(product(unaligned(half), b), product(widened(half), widened(b))));
}

TEST(Interpret, ReduceSumKeepsSixteenLanesAndTheTree) {
  Random random(9);
  for (const int64_t n : {0, 1, 15, 16, 17, 33, 1000}) {
    const Tensor x = random_f32(random, {3, n}, 100.0F);
    const Tensor sum = run(
        {x}, [](Graph& g, auto& in) { return std::vector{reduce(g, Op::reduce_sum, in[0])}; })[0];
    const std::vector<float> all = items<float>(x);
    for (int64_t r = 0; r < 3; ++r) {
      const std::vector<float> line(all.begin() + r * n, all.begin() + (r + 1) * n);
      EXPECT_EQ(items<float>(sum)[static_cast<size_t>(r)], lanes(line));
      const double exact = std::accumulate(line.begin(), line.end(), 0.0);
      EXPECT_NEAR(items<float>(sum)[static_cast<size_t>(r)], exact, 1e-4 * 100 * std::sqrt(n + 1));
    }
  }
}

TEST(Interpret, ReduceMaxOfNothingIsMinusInfinity) {
  const auto max = [](Graph& g, auto& in) { return std::vector{reduce(g, Op::reduce_max, in[0])}; };
  EXPECT_EQ(items<float>(run({f32({2, 3}, {-3, -1, -2, 5, 7, 6})}, max)[0]),
            (std::vector<float>{-1, 7}));
  EXPECT_EQ(items<float>(run({f32({1, 0}, {})}, max)[0])[0],
            -std::numeric_limits<float>::infinity());
}

TEST(Interpret, TopKOrdersByScoreThenByLowerId) {
  const auto best = [](int64_t k) {
    return [=](Graph& g, auto& in) {
      const Value top = top_k(g, in[0], k);
      return std::vector{top, Value{top.node, 1}};
    };
  };
  const Tensor x = f32({2, 5}, {1, 3, 2, 3, -0.0F, 0.0F, -0.0F, 0.0F, -1, -2});
  const std::vector<Tensor> out = run({x}, best(4));
  EXPECT_EQ(items<float>(out[0]), (std::vector<float>{3, 3, 2, 1, 0, 0, 0, -1}));
  EXPECT_EQ(items<int32_t>(out[1]), (std::vector<int32_t>{1, 3, 2, 0, 0, 1, 2, 3}));
  const float nan = std::nanf("");
  EXPECT_EQ(items<int32_t>(run({f32({1, 3}, {nan, 1, nan})}, best(1))[1])[0], 1);
}

TEST(Interpret, TopKAgreesWithSorting) {
  Random random(10);
  for (int round = 0; round < 20; ++round) {
    const int64_t n = pick(random, 1, 60), k = pick(random, 0, n);
    std::vector<float> x = items<float>(random_f32(random, {n}));
    for (float& value : x) value = std::round(value * 4);  // many ties
    const std::vector<Tensor> out = run({f32({1, n}, x)}, [&](Graph& g, auto& in) {
      const Value top = top_k(g, in[0], k);
      return std::vector{top, Value{top.node, 1}};
    });
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
      return x[static_cast<size_t>(i)] > x[static_cast<size_t>(j)];
    });
    order.resize(static_cast<size_t>(k));
    EXPECT_EQ(items<int32_t>(out[1]), order);
  }
}

}  // namespace
}  // namespace ng::testing
