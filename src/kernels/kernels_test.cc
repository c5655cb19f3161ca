// Do the kernels that go row by row or element by element give the bytes that kernels.h promises?
#include "kernels/kernels_test.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "tensor/dtype.h"
#include "tensor/math.h"

namespace ng {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Every 2039th float, the special ones, and a tail that is no multiple of 16.
std::vector<float> many_floats() {
  std::vector<float> x = {0.0f,          -0.0f, kInfinity, -kInfinity,
                          std::nanf(""), 1.0f,  -1.0f,     0x1p-149f};
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 2039) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  while (x.size() % 16 != 7) x.push_back(0.3f);
  return x;
}

template <class F>
std::vector<float> mapped(const std::vector<float>& x, F f) {
  std::vector<float> y(x.size());
  std::transform(x.begin(), x.end(), y.begin(), f);
  return y;
}

TEST(Kernels, ExpHasTheBitsOfTheScalar) {
  const std::vector<float> x = many_floats(), expected = mapped(x, exp_f32);
  for (const Kernels* kernels : supported_kernels()) {
    std::vector<float> y(x.size());
    kernels->exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
    EXPECT_TRUE(same_bits(y, expected)) << kernels->name;
  }
}

TEST(Kernels, ActivationsHaveTheBitsOfTheScalar) {
  const std::vector<float> x = many_floats();
  const auto relu = [](float v) { return 0.0f > v ? 0.0f : v; };
  const std::pair<Activation, std::vector<float>> cases[] = {
      {Activation::none, x},
      {Activation::relu, mapped(x, relu)},
      {Activation::gelu, mapped(x, gelu_f32)},
      {Activation::silu, mapped(x, silu_f32)}};
  for (const Kernels* kernels : supported_kernels()) {
    for (const auto& [activation, expected] : cases) {
      std::vector<float> y = x;  // in place
      kernels->activate(activation, y.data(), y.data(), static_cast<int64_t>(y.size()));
      EXPECT_TRUE(same_bits(y, expected)) << kernels->name << " " << static_cast<int>(activation);
    }
  }
}

TEST(Kernels, ElementwiseStopsAtTheEnd) {
  for (const Kernels* kernels : supported_kernels()) {
    for (int64_t n = 0; n < 40; ++n) {
      Fenced<float> x(std::vector<float>(static_cast<size_t>(n), 0.5f));
      kernels->exp(x.data(), x.data(), n);
      kernels->activate(Activation::relu, x.data(), x.data(), n);
      for (const float value : x.copy()) EXPECT_EQ(value, exp_f32(0.5f));
    }
  }
}

std::vector<float> want_layer_norm(const LayerNorm& n) {
  std::vector<float> out(static_cast<size_t>(n.rows * n.d)), y(static_cast<size_t>(n.d));
  const auto d = static_cast<float>(n.d);
  for (int64_t r = 0; r < n.rows; ++r) {
    const float* x = n.x + r * n.d;
    const float mean = lanes_of(x, nullptr, n.d) / d;
    for (int64_t i = 0; i < n.d; ++i) y[i] = x[i] - mean;
    const float scale = 1.0f / std::sqrt(lanes_of(y.data(), y.data(), n.d) / d + n.eps);
    for (int64_t i = 0; i < n.d; ++i) out[r * n.d + i] = y[i] * scale * n.weight[i] + n.bias[i];
  }
  return out;
}

TEST(Kernels, LayerNormHasTheBytesOfTheContract) {
  Random random(1);
  for (int64_t d = 1; d < 200; d += d < 70 ? 1 : 13) {
    const int64_t rows = d % 4;
    Fenced<float> weight(random.numbers(d)), bias(random.numbers(d));
    const std::vector<float> values = random.numbers(rows * d);
    for (const Kernels* kernels : supported_kernels()) {
      Fenced<float> x(values);
      LayerNorm n = {values.data(), weight.data(), bias.data(), x.data(), rows, d, 1e-5f};
      const std::vector<float> expected = want_layer_norm(n);
      n.x = x.data();  // in place
      kernels->layer_norm(n);
      EXPECT_TRUE(same_bits(x.copy(), expected)) << kernels->name << " d " << d;
    }
  }
}

struct EmbedData {
  std::vector<float> table, frequencies;  // [panels, d, 16], [d / 2]
  std::vector<int32_t> ids, positions;
};

EmbedData embed_data(int64_t d, Random& random) {
  EmbedData e;
  e.table = random.numbers(3 * d * 16);  // 48 ids
  for (float& x : e.table) x = bf16_to_f32(f32_to_bf16(x));
  for (int64_t i = 0; i < d / 2; ++i) e.frequencies.push_back(std::fabs(random.number()));
  for (int i = 0; i < 9; ++i) {
    e.ids.push_back(static_cast<int32_t>(random.integer(0, 47)));
    e.positions.push_back(static_cast<int32_t>(random.integer(0, 1 << random.integer(0, 15))));
  }
  e.positions[3] = 1;  // padding
  return e;
}

std::vector<float> want_embed(const EmbedData& e, int64_t d, float scale) {
  std::vector<float> out;
  for (size_t r = 0; r < e.ids.size(); ++r) {
    for (int64_t i = 0; i < d; ++i) {
      const int64_t half = d / 2;
      const auto angle = [&](int64_t j) {
        return static_cast<float>(e.positions[r]) * e.frequencies[static_cast<size_t>(j)];
      };
      float p = 0.0f;
      if (e.positions[r] != 1 && i < half) p = sin_f32(angle(i));
      if (e.positions[r] != 1 && i >= half && i < 2 * half) p = cos_f32(angle(i - half));
      const int64_t at = (e.ids[r] / 16 * d + i) * 16 + e.ids[r] % 16;
      out.push_back(e.table[static_cast<size_t>(at)] * scale + p);
    }
  }
  return out;
}

TEST(Kernels, EmbedHasTheBytesOfTheContract) {
  Random random(2);
  for (int64_t d = 1; d < 150; d += d < 70 ? 1 : 11) {
    const EmbedData data = embed_data(d, random);
    const std::vector<float> expected = want_embed(data, d, 7.3f);
    Fenced<float> table(data.table), frequencies(data.frequencies);
    Fenced<uint16_t> narrow(data.table.size());
    std::transform(data.table.begin(), data.table.end(), narrow.data(), f32_to_bf16);
    for (const Kernels* kernels : supported_kernels()) {
      Fenced<float> out(expected.size());
      Embed e = {table.data(),
                 data.ids.data(),
                 data.positions.data(),
                 frequencies.data(),
                 out.data(),
                 9,
                 d,
                 1,
                 7.3f};
      kernels->embed_f32(e);
      EXPECT_TRUE(same_bits(out.copy(), expected)) << kernels->name << " d " << d;
      e.table = narrow.data();
      kernels->embed_bf16(e);
      EXPECT_TRUE(same_bits(out.copy(), expected)) << kernels->name << " bf16 d " << d;
    }
  }
}

// The angles themselves, position 1: up to 10^5 and beyond.
TEST(Kernels, SinAndCosHaveTheBitsOfTheScalar) {
  EmbedData data;
  for (uint32_t bits = 0; bits < 0x48000000u; bits += 4099) {
    data.frequencies.push_back(std::bit_cast<float>(bits));
  }
  const auto d = static_cast<int64_t>(2 * data.frequencies.size());
  data.table.assign(static_cast<size_t>(16 * d), 0.0f);
  const int32_t id = 0, position = 1;
  std::vector<float> expected = mapped(data.frequencies, sin_f32), out(static_cast<size_t>(d));
  const std::vector<float> cosines = mapped(data.frequencies, cos_f32);
  expected.insert(expected.end(), cosines.begin(), cosines.end());
  for (const Kernels* kernels : supported_kernels()) {
    kernels->embed_f32(
        {data.table.data(), &id, &position, data.frequencies.data(), out.data(), 1, d, -1, 1.0f});
    EXPECT_TRUE(same_bits(out, expected)) << kernels->name;
  }
}

TEST(Kernels, TileSumHasTheBytesOfTheContract) {
  Random random(3);
  for (int64_t n = 1; n <= kTile; n += n < 70 ? 1 : 53) {
    const std::vector<float> values = random.numbers(n);
    const float top = *std::max_element(values.begin(), values.end());
    const std::vector<float> e = mapped(values, [&](float x) { return exp_f32(x - top); });
    Fenced<float> x(values);
    for (const Kernels* kernels : supported_kernels()) {
      const TileSum sum = kernels->tile_sum(x.data(), n);
      EXPECT_EQ(sum.max, top);
      EXPECT_EQ(sum.sum, lanes_of(e.data(), nullptr, n)) << kernels->name << " n " << n;
    }
  }
}

TEST(Kernels, LogSumExpOfTilesIsCloseToTheDoubleResult) {
  Random random(4);
  const std::vector<float> x = mapped(random.numbers(5000), [](float v) { return 20 * v; });
  double expected = 0;
  for (const float value : x) expected += std::exp(double{value} - 40);
  TileSum total = {-kInfinity, 0.0f};
  for (int64_t i = 0; i < 5000; i += kTile) {
    const int64_t n = std::min<int64_t>(kTile, 5000 - i);
    total = combine(total, supported_kernels().front()->tile_sum(x.data() + i, n));
  }
  EXPECT_NEAR(log_sum_exp(total), 40 + std::log(expected), 1e-5);
}

// Scores with many ties, offered in pieces in any order, against a sort of all.
void expect_best(const Kernels& kernels, int64_t n, int64_t k, Random& random) {
  std::vector<float> values = random.numbers(n);
  if (random.coin()) {
    for (float& x : values) x = std::round(x);  // -0 and +0 too
  }
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  std::vector<float> scores(static_cast<size_t>(k));
  std::vector<int32_t> ids(static_cast<size_t>(k));
  Best best = {scores.data(), ids.data(), k, 0};
  const int64_t middle = random.integer(0, n);
  Fenced<float> low(std::vector<float>(values.begin(), values.begin() + middle));
  Fenced<float> high(std::vector<float>(values.begin() + middle, values.end()));
  kernels.top_k(high.data(), n - middle, static_cast<int32_t>(middle + 100), best);
  kernels.top_k(low.data(), middle, 100, best);
  ASSERT_EQ(best.count, std::min(n, k));
  for (int64_t i = 0; i < best.count; ++i) {
    ASSERT_EQ(ids[i], order[i] + 100) << kernels.name << " n " << n << " k " << k;
    ASSERT_EQ(scores[i], values[order[i]]);
  }
}

TEST(Kernels, TopKIsTheHeadOfAStableSort) {
  Random random(5);
  for (const Kernels* kernels : supported_kernels()) {
    for (int64_t n = 0; n < 60; ++n) expect_best(*kernels, n, random.integer(1, 70), random);
    for (const int64_t k : {1, 2, 5, 16, 100, 1000, 3000}) {
      expect_best(*kernels, 5000, k, random);
    }
  }
}

TEST(Kernels, AreChosenByNameOrFastestFirst) {
  EXPECT_EQ(select_kernels(nullptr), supported_kernels().front());
  EXPECT_EQ(select_kernels(""), supported_kernels().front());
  EXPECT_STREQ(select_kernels("generic")->name, "generic");
  EXPECT_EQ(select_kernels("avx1024"), nullptr);
  EXPECT_STREQ(supported_kernels().back()->name, "generic");
}

}  // namespace
}  // namespace ng
