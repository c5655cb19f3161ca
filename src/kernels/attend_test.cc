// Does every instruction set's attention give the bytes that kernels.h promises?
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/kernels_test.h"
#include "tensor/math.h"

namespace ng {
namespace {

struct Case {
  int64_t rows, heads, head_dim, cache, history_size;
  std::vector<int32_t> length, history;  // [rows], [rows, history_size + history_pad]
  int64_t history_pad = 0, q_pad = 0, kv_pad = 0, out_pad = 0;
  int64_t first_row = 0, last_row, first_head = 0, last_head;
};

struct Data {
  std::vector<float> q, keys, values, out;
};

Case random_case(Random& random) {
  Case c = {};
  c.rows = random.integer(1, 20);
  c.heads = random.integer(1, 3);
  c.head_dim = random.coin() ? 16 * random.integer(1, 9) : random.integer(1, 130);
  c.cache = random.integer(1, 90);
  c.history_size = random.coin() ? 1 : random.integer(1, std::min<int64_t>(c.cache, 40));
  c.history_pad = random.integer(0, 3);
  c.q_pad = random.integer(0, 5);
  c.kv_pad = random.integer(0, 5);
  c.out_pad = random.integer(0, 5);
  int64_t start = 0, length = 1;
  for (int64_t r = 0; r < c.rows; ++r) {
    if (r == 0 || random.integer(0, 3) == 0) {  // else the run of the row before
      length = random.integer(1, c.cache);
      start = random.integer(0, c.cache - length);
    }
    c.length.push_back(static_cast<int32_t>(length));
    for (int64_t t = 0; t < c.history_size - 1; ++t) {
      c.history.push_back(static_cast<int32_t>(random.integer(0, c.cache - 1)));
    }
    c.history.push_back(static_cast<int32_t>(start));
    for (int64_t t = 0; t < c.history_pad; ++t) c.history.push_back(-1);
  }
  c.last_row = random.integer(0, c.rows);
  c.first_row = random.integer(0, c.last_row);
  c.last_head = random.integer(0, c.heads);
  c.first_head = random.integer(0, c.last_head);
  return c;
}

Data make_data(const Case& c, Random& random) {
  const int64_t width = c.heads * c.head_dim;
  return {random.numbers(c.rows * (width + c.q_pad)), random.numbers(c.cache * (width + c.kv_pad)),
          random.numbers(c.cache * (width + c.kv_pad)),
          random.numbers(c.rows * (width + c.out_pad))};
}

constexpr float kScale = 0.173f;

int64_t cache_row(const Case& c, int64_t r, int64_t t) {
  const int64_t n = c.history_size;
  return c.history[r * (n + c.history_pad) + std::min(t, n - 1)] +
         std::max<int64_t>(0, t - (n - 1));
}

// The head of one row, into out[0 … head_dim).
void want_head(const Case& c, const Data& d, int64_t r, int64_t h, float* out) {
  const int64_t width = c.heads * c.head_dim, at = h * c.head_dim, length = c.length[r];
  std::vector<float> p;
  for (int64_t t = 0; t < length; ++t) {
    const float* key = &d.keys[cache_row(c, r, t) * (width + c.kv_pad) + at];
    p.push_back(lanes_of(&d.q[r * (width + c.q_pad) + at], key, c.head_dim) * kScale);
  }
  const float top = *std::max_element(p.begin(), p.end());
  for (float& x : p) x = exp_f32(x - top);
  const float total = lanes_of(p.data(), nullptr, length);
  for (float& x : p) x /= total;
  for (int64_t i = 0; i < c.head_dim; ++i) {
    float sum = 0.0f, turn = 0.0f;
    for (int64_t t = 0; t < length; ++t) {
      turn = std::fma(p[t], d.values[cache_row(c, r, t) * (width + c.kv_pad) + at + i], turn);
      if ((t + 1) % 32 == 0 || t + 1 == length) sum += std::exchange(turn, 0.0f);
    }
    out[i] = sum;
  }
}

std::vector<float> want(const Case& c, const Data& d) {
  std::vector<float> out = d.out;
  for (int64_t r = c.first_row; r < c.last_row; ++r) {
    for (int64_t h = c.first_head; h < c.last_head; ++h) {
      want_head(c, d, r, h, &out[r * (c.heads * c.head_dim + c.out_pad) + h * c.head_dim]);
    }
  }
  return out;
}

std::vector<float> run(const Kernels& kernels, const Case& c, const Data& d) {
  Fenced<float> q(d.q), keys(d.keys), values(d.values), out(d.out);
  Fenced<int32_t> history(c.history), length(c.length);
  const int64_t width = c.heads * c.head_dim;
  Fenced<float> scratch(
      static_cast<size_t>(attend_scratch(*std::max_element(c.length.begin(), c.length.end()))));
  Attend a = {};
  a.q = q.data();
  a.keys = keys.data();
  a.values = values.data();
  a.history = history.data();
  a.length = length.data();
  a.out = out.data();
  a.scratch = scratch.data();
  a.q_stride = width + c.q_pad;
  a.kv_stride = width + c.kv_pad;
  a.out_stride = width + c.out_pad;
  a.history_stride = c.history_size + c.history_pad;
  a.history_size = c.history_size;
  a.first_row = c.first_row;
  a.last_row = c.last_row;
  a.first_head = c.first_head;
  a.last_head = c.last_head;
  a.head_dim = c.head_dim;
  a.scale = kScale;
  kernels.attend(a);
  return out.copy();
}

void expect_exact(const Case& c, const Data& d) {
  const std::vector<float> expected = want(c, d);
  for (const Kernels* kernels : supported_kernels()) {
    EXPECT_TRUE(same_bits(run(*kernels, c, d), expected))
        << kernels->name << " rows " << c.rows << " head_dim " << c.head_dim << " history "
        << c.history_size;
  }
}

TEST(Attend, RandomCasesHaveTheBytesOfTheContract) {
  Random random(1);
  for (int i = 0; i < 300; ++i) {
    const Case c = random_case(random);
    expect_exact(c, make_data(c, random));
  }
}

TEST(Attend, EveryHeadSizeHasTheBytesOfTheContract) {
  Random random(2);
  for (int64_t head_dim = 1; head_dim <= 130; ++head_dim) {
    const Case c = {.rows = 2,
                    .heads = 2,
                    .head_dim = head_dim,
                    .cache = 19,
                    .history_size = 1,
                    .length = {19, 3},
                    .history = {0, 16},
                    .last_row = 2,
                    .last_head = 2};
    expect_exact(c, make_data(c, random));
  }
}

TEST(Attend, EveryLengthHasTheBytesOfTheContract) {
  Random random(3);
  for (int32_t length = 1; length <= 70; ++length) {
    const Case c = {.rows = 3,
                    .heads = 1,
                    .head_dim = 20,
                    .cache = 70,
                    .history_size = 1,
                    .length = {length, length, length},
                    .history = {70 - length, 70 - length, 0},
                    .last_row = 3,
                    .last_head = 1};
    expect_exact(c, make_data(c, random));
  }
}

// One row that sees a single position returns its value, whatever the score.
TEST(Attend, OnePositionReturnsItsValue) {
  Random random(4);
  const Case c = {.rows = 1,
                  .heads = 1,
                  .head_dim = 64,
                  .cache = 1,
                  .history_size = 1,
                  .length = {1},
                  .history = {0},
                  .last_row = 1,
                  .last_head = 1};
  const Data d = make_data(c, random);
  for (const Kernels* kernels : supported_kernels()) {
    EXPECT_TRUE(same_bits(run(*kernels, c, d), d.values)) << kernels->name;
  }
}

// Unmasked padding is one key many times over: in a single chain each addition rounds the same way.
TEST(Attend, EqualPositionsDoNotAddUpTheirRounding) {
  Random random(5);
  const int32_t length = 1000;
  const Case c = {.rows = 1,
                  .heads = 1,
                  .head_dim = 64,
                  .cache = length,
                  .history_size = 1,
                  .length = {length},
                  .history = {0},
                  .last_row = 1,
                  .last_head = 1};
  Data d = make_data(c, random);
  for (size_t i = 64; i < d.keys.size(); ++i) {
    d.keys[i] = d.keys[i - 64];
    d.values[i] = d.values[i - 64];
  }
  const std::vector<float> found = run(*supported_kernels().front(), c, d);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], d.values[i], 3e-6 * std::abs(d.values[i])) << "element " << i;
  }
}

}  // namespace
}  // namespace ng
