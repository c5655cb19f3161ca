#include <cmath>

#include "ir/test_run.h"
#include "tensor/math.h"

namespace ng::testing {
namespace {

std::vector<double> doubles(const Tensor& tensor) {
  const std::vector<float> x = items<float>(tensor);
  return {x.begin(), x.end()};
}
Tensor once(const std::vector<Tensor>& inputs,
            const std::function<Value(Graph&, std::vector<Value>)>& op,
            ThreadPool* threads = nullptr) {
  return run(
      inputs, [&](Graph& g, auto& in) { return std::vector{op(g, in)}; }, threads)[0];
}
Tensor packed(const Tensor& x) {
  return once({x}, [](Graph& g, auto in) { return pack(g, in[0]); });
}
Tensor as_bf16(const Tensor& x) {
  return once({x}, [](Graph& g, auto in) { return convert(g, in[0], DType::bf16); });
}

double activated(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::none: return x;
    case ActivationKind::relu: return std::max(x, 0.0);
    case ActivationKind::gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ActivationKind::silu: return x / (1 + std::exp(-x));
  }
  return x;
}
constexpr ActivationKind kKinds[] = {ActivationKind::none, ActivationKind::relu,
                                     ActivationKind::gelu, ActivationKind::silu};

TEST(Interpret, LinearIsProductBiasActivationResidual) {
  Random random(11);
  for (int round = 0; round < 40; ++round) {
    const int64_t rows = pick(random, 0, 6), k = pick(random, 1, 30), n = pick(random, 1, 40);
    const ActivationKind kind = kKinds[round % 4];
    const int64_t parts = pick(random, 2, 4);
    std::vector<Tensor> in = {random_f32(random, {rows, k}), random_f32(random, {n, k}),
                              random_f32(random, {n}), random_f32(random, {rows, n})};
    in.resize(static_cast<size_t>(parts));
    const auto build = [&](Graph& g, std::vector<Value> v) {
      LinearInputs inputs{v[0], v[1], {}, {}};
      if (parts > 2) inputs.bias = v[2];
      if (parts > 3) inputs.residual = v[3];
      return linear(g, inputs, n, kind);
    };
    const std::vector<double> x = doubles(in[0]), w = doubles(in[1]);
    std::vector<double> expected;
    for (int64_t i = 0; i < rows * n; ++i) {
      double sum = parts > 2 ? doubles(in[2])[static_cast<size_t>(i % n)] : 0.0;
      for (int64_t j = 0; j < k; ++j) {
        sum += x[static_cast<size_t>(i / n * k + j)] * w[static_cast<size_t>(i % n * k + j)];
      }
      const double residual = parts > 3 ? doubles(in[3])[static_cast<size_t>(i)] : 0.0;
      expected.push_back(activated(kind, sum) + residual);
    }
    ThreadPool threads(2);
    const Tensor plain = once(in, build);
    expect_close(plain, expected, 5e-6);
    in[1] = packed(in[1]);
    EXPECT_TRUE(same_bytes(once(in, build, &threads), plain));
  }
}

TEST(Interpret, LinearGivesTheSameBytesForPlainPackedAndUnalignedBf16) {
  Random random(12);
  const Tensor x = random_f32(random, {5, 33}), w = as_bf16(random_f32(random, {37, 33}));
  const auto build = [](Graph& g, auto in) { return linear(g, {in[0], in[1], {}, {}}, 37); };
  const Tensor plain = once({x, w}, build);
  EXPECT_TRUE(same_bytes(once({x, unaligned(packed(w))}, build), plain));
  const Tensor wide = once({w}, [](Graph& g, auto in) { return convert(g, in[0], DType::f32); });
  EXPECT_TRUE(same_bytes(once({x, wide}, build), plain));
}

TEST(Interpret, ActivateFollowsItsFormula) {
  Random random(13);
  const Tensor x = random_f32(random, {4, 25}, 3.0F);
  for (const ActivationKind kind : kKinds) {
    std::vector<double> expected;
    for (const double value : doubles(x)) expected.push_back(activated(kind, value));
    expect_close(once({x}, [&](Graph& g, auto in) { return activate(g, in[0], kind); }), expected,
                 5e-7);
  }
}

TEST(Interpret, LayerNormUsesTheBiasedVariance) {
  Random random(14);
  for (const int64_t d : {1, 2, 16, 19, 100}) {
    const std::vector<Tensor> in = {random_f32(random, {3, d}, 5.0F), random_f32(random, {d}),
                                    random_f32(random, {d})};
    const std::vector<double> x = doubles(in[0]), w = doubles(in[1]), b = doubles(in[2]);
    std::vector<double> expected;
    for (int64_t i = 0; i < 3 * d; ++i) {
      double mean = 0, variance = 0;
      const auto* line = x.data() + i / d * d;
      for (int64_t j = 0; j < d; ++j) mean += line[j] / static_cast<double>(d);
      for (int64_t j = 0; j < d; ++j) {
        variance += (line[j] - mean) * (line[j] - mean) / static_cast<double>(d);
      }
      const auto at = static_cast<size_t>(i % d);
      expected.push_back((line[at] - mean) / std::sqrt(variance + 1e-5) * w[at] + b[at]);
    }
    expect_close(once(in, [](Graph& g, auto v) { return layer_norm(g, v[0], v[1], v[2], 1e-5F); }),
                 expected, 3e-6);
  }
}

struct EmbedCase {
  int64_t vocabulary, d;
  Tensor ids, positions, table;
};
Tensor embedded(const EmbedCase& c) {
  return once({c.ids, c.positions, c.table}, [&](Graph& g, auto in) {
    return embed(g, {in[0], in[1], in[2], frequencies(g, c.d / 2)}, 3.0F, 1);
  });
}

TEST(Interpret, EmbedAddsTheSinusoidOfThePosition) {
  Random random(15);
  for (const int64_t d : {4, 5, 16, 33}) {
    EmbedCase c{20, d, random_s32(random, {6}, 0, 19), s32({6}, {2, 3, 1, 0, 500, 7}),
                random_f32(random, {20, d})};
    const std::vector<double> table = doubles(c.table);
    const int64_t half = d / 2;
    std::vector<double> expected;
    for (int64_t i = 0; i < 6 * d; ++i) {
      const auto r = static_cast<size_t>(i / d);
      const int64_t j = i % d, position = items<int32_t>(c.positions)[r];
      const double f = std::exp(-std::log(10000.0) / static_cast<double>(half - 1) *
                                static_cast<double>(j % half));
      const double angle = static_cast<float>(position) * static_cast<float>(f);
      double wave = j < half ? std::sin(angle) : std::cos(angle);
      if (position == 1 || j >= 2 * half) wave = 0;
      expected.push_back(table[static_cast<size_t>(items<int32_t>(c.ids)[r] * d + j)] * 3 + wave);
    }
    const Tensor plain = embedded(c);
    expect_close(plain, expected, 6e-5);  // one ulp of a frequency, times position 500
    c.table = packed(c.table);
    EXPECT_TRUE(same_bytes(embedded(c), plain));
  }
}

TEST(Interpret, EmbedRefusesIdsAndPositionsOutsideItsTable) {
  Random random(16);
  EmbedCase c{4, 6, s32({1}, {4}), s32({1}, {2}), random_f32(random, {4, 6})};
  EXPECT_THAT(refusal([&] { embedded(c); }), ::testing::HasSubstr("id 4 of 4"));
  c.ids = s32({1}, {0});
  c.positions = s32({1}, {-1});
  EXPECT_THAT(refusal([&] { embedded(c); }), ::testing::HasSubstr("position -1"));
}

// Random queries over a cache; history lists rows, or starts a run when n is 1.
std::vector<Tensor> attend_case(Random& random, int64_t heads, int64_t head_dim, int64_t n) {
  const int64_t rows = pick(random, 1, 5), cache = pick(random, 4, 40), d = heads * head_dim;
  std::vector<Tensor> in = {random_f32(random, {rows, d}), random_f32(random, {cache, d}),
                            random_f32(random, {cache, d})};
  if (n > 1) {
    in.push_back(random_s32(random, {rows, n}, 0, cache - 1));
    in.push_back(random_s32(random, {rows}, 1, n));
  } else {
    in.push_back(random_s32(random, {rows, 1}, 0, 2));
    in.push_back(random_s32(random, {rows}, 1, cache - 2));
  }
  return in;
}

std::vector<double> attend_expected(const std::vector<Tensor>& in, int64_t heads, double scale) {
  const std::vector<double> q = doubles(in[0]), keys = doubles(in[1]), values = doubles(in[2]);
  const std::vector<int32_t> history = items<int32_t>(in[3]), length = items<int32_t>(in[4]);
  const int64_t d = in[0].type.size(1), n = in[3].type.size(1), head_dim = d / heads;
  std::vector<double> out;
  for (int64_t i = 0; i < in[0].type.size(0) * d; ++i) {
    const int64_t r = i / d, first = i % d / head_dim * head_dim;
    double total = 0, sum = 0;
    for (int64_t t = 0; t < length[static_cast<size_t>(r)]; ++t) {
      const int64_t row =
          n == 1 ? history[static_cast<size_t>(r)] + t : history[static_cast<size_t>(r * n + t)];
      double score = 0;
      for (int64_t j = first; j < first + head_dim; ++j) {
        score += q[static_cast<size_t>(r * d + j)] * keys[static_cast<size_t>(row * d + j)];
      }
      total += std::exp(score * scale);
      sum += std::exp(score * scale) * values[static_cast<size_t>(row * d + i % d)];
    }
    out.push_back(sum / total);
  }
  return out;
}
Tensor attended(const std::vector<Tensor>& in, int64_t heads, float scale,
                ThreadPool* threads = nullptr) {
  return once(
      in,
      [&](Graph& g, auto v) {
        return attend(g, {v[0], v[1], v[2], v[3], v[4]}, heads, scale);
      },
      threads);
}

TEST(Interpret, AttendIsASoftmaxOverTheHistory) {
  Random random(17);
  ThreadPool threads(2);
  for (int round = 0; round < 60; ++round) {
    const int64_t heads = pick(random, 1, 4);
    const std::vector<Tensor> in =
        attend_case(random, heads, pick(random, 1, 35), round % 2 == 0 ? 1 : pick(random, 2, 9));
    const Tensor found = attended(in, heads, 0.5F);
    expect_close(found, attend_expected(in, heads, 0.5), 1e-5);
    EXPECT_TRUE(same_bytes(attended(in, heads, 0.5F, &threads), found));
  }
}

TEST(Interpret, AttendRefusesReadsOutsideTheCache) {
  Random random(18);
  std::vector<Tensor> in = {random_f32(random, {1, 4}), random_f32(random, {3, 4}),
                            random_f32(random, {3, 4}), s32({1, 1}, {1}), s32({1}, {3})};
  EXPECT_THAT(refusal([&] { attended(in, 2, 1.0F); }), ::testing::HasSubstr("reads 3 of 3"));
  in[4] = s32({1}, {0});
  EXPECT_THAT(refusal([&] { attended(in, 2, 1.0F); }), ::testing::HasSubstr("length 0 of row 0"));
  in[4] = s32({1}, {2147483647});
  refusal([&] { attended(in, 2, 1.0F); });
  in[3] = s32({1, 1}, {-1});
  in[4] = s32({1}, {1});
  refusal([&] { attended(in, 2, 1.0F); });
}

TEST(Interpret, LogSumExpCombinesTilesInOrder) {
  Random random(19);
  for (const int64_t n : {1, 5, 1023, 1024, 1025, 3000}) {
    const Tensor x = random_f32(random, {2, n}, 20.0F);
    std::vector<double> expected;
    for (size_t r = 0; r < 2; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i)
        sum += std::exp(doubles(x)[r * static_cast<size_t>(n) + static_cast<size_t>(i)]);
      expected.push_back(std::log(sum));
    }
    expect_close(once({x}, [](Graph& g, auto in) { return log_sum_exp(g, in[0]); }), expected,
                 1e-6);
  }
}

TEST(Interpret, ProjectTopKIsLinearThenTopKAndLogSumExp) {
  Random random(20);
  for (const int64_t vocabulary : {8, 100, 2500}) {
    const Tensor x = random_f32(random, {3, 12}), table = random_f32(random, {vocabulary, 12});
    const auto whole = [&](Graph& g, auto& in) {
      const Value best = project_top_k(g, in[0], in[1], vocabulary, 5);
      return std::vector{best, Value{best.node, 1}, Value{best.node, 2}};
    };
    const auto parts = [&](Graph& g, auto& in) {
      const Value logits = linear(g, {in[0], in[1], {}, {}}, vocabulary);
      const Value best = top_k(g, logits, 5);
      return std::vector{best, Value{best.node, 1}, log_sum_exp(g, logits)};
    };
    const std::vector<Tensor> one = run({x, table}, whole), two = run({x, packed(table)}, parts);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bytes(one[i], two[i])) << i;
  }
}

// One row gives the same bytes alone and among others: no sum crosses rows.
TEST(Interpret, ARowDoesNotDependOnItsBatch) {
  Random random(21);
  const Tensor x = random_f32(random, {9, 40}), w = random_f32(random, {50, 40});
  const auto whole = [](Graph& g, auto in) { return linear(g, {in[0], in[1], {}, {}}, 50); };
  const Tensor together = once({x, w}, whole);
  for (int64_t r = 0; r < 9; ++r) {
    const Tensor line = once({x}, [&](Graph& g, auto in) { return slice(g, in[0], 0, r, 1); });
    const Tensor expected =
        once({together}, [&](Graph& g, auto in) { return slice(g, in[0], 0, r, 1); });
    EXPECT_TRUE(same_bytes(once({line, w}, whole), expected));
  }
}

}  // namespace
}  // namespace ng::testing
