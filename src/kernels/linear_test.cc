// Does every instruction set's matmul give the bytes that kernels.h promises?
#include "kernels/kernels_test.h"
#include "tensor/dtype.h"
#include "tensor/math.h"

namespace ng {
namespace {

struct Case {
  int64_t rows, k, n;
  bool bf16 = false, bias = true, residual = true, in_place = false;
  Activation activation = Activation::none;
  int64_t a_pad = 0, residual_pad = 0, out_pad = 0;
  int64_t first_panel = 0, last_panel = -1;  // -1: all
};

struct Data {
  std::vector<float> a, weights, bias, residual, out;  // weights: [n, k], exact in the case's type
};

float activated(Activation activation, float x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return 0.0f > x ? 0.0f : x;
    case Activation::gelu: return gelu_f32(x);
    case Activation::silu: return silu_f32(x);
  }
  return x;
}

Data make_data(const Case& c, Random& random) {
  Data d;
  d.a = random.numbers(c.rows * (c.k + c.a_pad));
  d.weights = random.numbers(c.n * c.k);
  if (c.bf16) {
    for (float& w : d.weights) w = bf16_to_f32(f32_to_bf16(w));
  }
  d.bias = random.numbers(c.n);
  d.residual = random.numbers(c.rows * (c.n + c.residual_pad));
  d.out = random.numbers(c.rows * (c.n + c.out_pad));  // what must stay where nothing is written
  if (c.in_place) d.residual = d.out;
  return d;
}

template <class T>
std::vector<T> packed(const Case& c, const std::vector<float>& weights, T (*narrowed)(float)) {
  const int64_t panels = (c.n + 15) / 16;
  std::vector<T> b(static_cast<size_t>(panels * c.k * 16), narrowed(0.0f));
  for (int64_t j = 0; j < c.n; ++j) {
    for (int64_t i = 0; i < c.k; ++i) {
      b[static_cast<size_t>((j / 16 * c.k + i) * 16 + j % 16)] =
          narrowed(weights[static_cast<size_t>(j * c.k + i)]);
    }
  }
  return b;
}

std::vector<float> want(const Case& c, const Data& d) {
  std::vector<float> out = d.out;
  const int64_t last = c.last_panel < 0 ? c.n : std::min(c.n, c.last_panel * 16);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = c.first_panel * 16; j < last; ++j) {
      float x = 0.0f;
      for (int64_t i = 0; i < c.k; ++i) {
        x = std::fma(d.a[r * (c.k + c.a_pad) + i], d.weights[j * c.k + i], x);
      }
      if (c.bias) x += d.bias[j];
      x = activated(c.activation, x);
      if (c.residual) x += d.residual[r * (c.n + c.residual_pad) + j];
      out[r * (c.n + c.out_pad) + j] = x;
    }
  }
  return out;
}

std::vector<float> run(const Kernels& kernels, const Case& c, const Data& d) {
  Fenced<float> a(d.a), bias(d.bias), residual(d.residual), out(d.out);
  Fenced<float> f32(packed<float>(c, d.weights, [](float x) { return x; }));
  Fenced<uint16_t> bf16(packed<uint16_t>(c, d.weights, f32_to_bf16));
  Linear l = {};
  l.a = a.data();
  l.b = c.bf16 ? static_cast<const void*>(bf16.data()) : f32.data();
  l.bias = c.bias ? bias.data() : nullptr;
  l.residual = !c.residual ? nullptr : c.in_place ? out.data() : residual.data();
  l.out = out.data();
  l.a_stride = c.k + c.a_pad;
  l.residual_stride = c.n + (c.in_place ? c.out_pad : c.residual_pad);
  l.out_stride = c.n + c.out_pad;
  l.rows = c.rows;
  l.k = c.k;
  l.n = c.n;
  l.first_panel = c.first_panel;
  l.last_panel = c.last_panel < 0 ? (c.n + 15) / 16 : c.last_panel;
  l.activation = c.activation;
  (c.bf16 ? kernels.linear_bf16 : kernels.linear_f32)(l);
  return out.copy();
}

void expect_exact(const Case& c, Random& random) {
  const Data d = make_data(c, random);
  const std::vector<float> expected = want(c, d);
  for (const Kernels* kernels : supported_kernels()) {
    EXPECT_TRUE(same_bits(run(*kernels, c, d), expected))
        << kernels->name << " rows " << c.rows << " k " << c.k << " n " << c.n << " bf16 "
        << c.bf16;
  }
}

TEST(Linear, EveryAwkwardSizeHasTheBytesOfTheContract) {
  Random random(1);
  for (const int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31}) {
    for (const int64_t k : {1, 2, 15, 16, 17, 40}) {
      for (const int64_t n : {1, 15, 16, 17, 31, 32, 33, 49, 65, 100}) {
        expect_exact({.rows = rows, .k = k, .n = n, .bf16 = (rows + k + n) % 2 == 0}, random);
      }
    }
  }
}

TEST(Linear, StridesEpiloguesAndPanelRangesHaveTheBytesOfTheContract) {
  Random random(2);
  for (int i = 0; i < 400; ++i) {
    Case c = {
        .rows = random.integer(1, 20), .k = random.integer(1, 70), .n = random.integer(1, 90)};
    c.bf16 = random.coin();
    c.bias = random.coin();
    c.residual = random.coin();
    c.activation = static_cast<Activation>(random.integer(0, 3));
    c.a_pad = random.integer(0, 5);
    c.out_pad = random.integer(0, 5);
    c.in_place = random.coin();
    c.residual_pad = c.in_place ? c.out_pad : random.integer(0, 5);
    c.last_panel = random.integer(0, (c.n + 15) / 16);
    c.first_panel = random.integer(0, c.last_panel);
    expect_exact(c, random);
  }
}

// Sizes at which a kernel splits its work: steps of k, chunks of rows.
TEST(Linear, SplitsOfKAndRowsLeaveNoTrace) {
  Random random(3);
  for (const int64_t k : {1023, 1024, 1025, 2100}) {
    expect_exact({.rows = 11, .k = k, .n = 50, .activation = Activation::relu}, random);
    expect_exact({.rows = 9, .k = k, .n = 33, .bf16 = true, .in_place = true}, random);
  }
  for (const int64_t rows : {63, 64, 65, 95, 97, 127, 128, 129, 133, 260}) {
    expect_exact({.rows = rows, .k = 24, .n = 70}, random);
  }
  expect_exact({.rows = 131, .k = 1030, .n = 17}, random);
}

TEST(Linear, IsCloseToTheDoubleResult) {
  Random random(4);
  const Case c = {.rows = 3, .k = 1000, .n = 40, .bias = false, .residual = false};
  const Data d = make_data(c, random);
  const std::vector<float> out = run(*supported_kernels().front(), c, d);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < c.k; ++i) sum += double{d.a[r * c.k + i]} * d.weights[j * c.k + i];
      EXPECT_NEAR(out[r * c.n + j], sum, 1e-3);
    }
  }
}

// Two halves of the panels, as two threads compute them, and rows in any batch: the same bytes.
TEST(Linear, BatchAndThreadsDoNotChangeARow) {
  Random random(5);
  const Case all = {.rows = 40, .k = 300, .n = 100, .activation = Activation::gelu};
  const Data d = make_data(all, random);
  for (const Kernels* kernels : supported_kernels()) {
    const std::vector<float> expected = run(*kernels, all, d);
    Case half = all;
    half.last_panel = 3;
    Data part = d;
    part.out = run(*kernels, half, part);
    half.first_panel = 3;
    half.last_panel = 7;
    EXPECT_TRUE(same_bits(run(*kernels, half, part), expected)) << kernels->name;
    Case one = all;
    one.rows = 1;
    const std::vector<float> row = run(*kernels, one, d);
    EXPECT_TRUE(same_bits(std::span(row).first(100), std::span(expected).first(100)));
  }
}

}  // namespace
}  // namespace ng
