// What do the composites mean? The same sums in the same orders as src/kernels/kernels.h, so that
// the CPU backend can be compared byte for byte.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "ir/evaluation.h"
#include "ir/sums.h"
#include "tensor/math.h"

namespace ng {
namespace {

float activation(ActivationKind kind, float x) {
  switch (kind) {
    case ActivationKind::none: return x;
    case ActivationKind::relu: return 0.0F > x ? 0.0F : x;
    case ActivationKind::gelu: return gelu_f32(x);
    case ActivationKind::silu: return silu_f32(x);
  }
  return x;
}

// The sinusoidal table, [positions, d] as it is or computed from frequencies [d / 2].
struct Sinusoids {
  const Elements<float> given;
  bool is_table;
  int64_t d, padding;

  float operator()(int32_t position, int64_t i) const {
    if (is_table) return given[std::min<int64_t>(position, given.size() / d - 1) * d + i];
    if (position == padding) return 0.0F;
    const int64_t half = given.size();
    if (i < half) return sin_f32(static_cast<float>(position) * given[i]);
    return i < 2 * half ? cos_f32(static_cast<float>(position) * given[i - half]) : 0.0F;
  }
};

void norm_line(const float* x, int64_t d, float eps, float* out) {
  const auto size = static_cast<float>(d);
  const float mean = lanes_sum(x, d) / size;
  for (int64_t i = 0; i < d; ++i) out[i] = x[i] - mean;
  const float inverse = 1.0F / std::sqrt(lanes_dot(out, out, d) / size + eps);
  for (int64_t i = 0; i < d; ++i) out[i] = out[i] * inverse;
}

struct Attention {
  explicit Attention(const Evaluation& e)
      : q(e.in[0]),
        keys(e.in[1]),
        values(e.in[2]),
        history(e.in[3]),
        length(e.in[4]),
        rows(e.in[0].type.size(0)),
        width(e.in[0].type.size(1)),
        cache(e.in[1].type.size(0)),
        n(e.in[3].type.size(1)),
        head_dim(width / e.node.attrs.heads),
        scale(e.node.attrs.scale) {}

  Elements<float> q, keys, values;
  Elements<int32_t> history, length;
  int64_t rows, width, cache, n, head_dim;
  float scale;

  int64_t cache_row(int64_t r, int64_t t) const {
    return history[r * n + std::min(t, n - 1)] + std::max<int64_t>(0, t - (n - 1));
  }

  void check_reads() const {
    for (int64_t r = 0; r < rows; ++r) {
      check(length[r] >= 1 && n >= 1 && length[r] <= n + cache, "attend: length {} of row {}",
            length[r], r);
      for (int64_t t = 0; t < length[r]; ++t) {
        const int64_t at = cache_row(r, t);
        check(at >= 0 && at < cache, "attend: row {} reads {} of {} cache rows", r, at, cache);
      }
    }
  }

  // Reads `first` … of width head_dim of a row; p is scratch of length[r].
  void head(int64_t r, int64_t first, float* p, float* out) const {
    const int64_t context = length[r];
    float best = -std::numeric_limits<float>::infinity();
    for (int64_t t = 0; t < context; ++t) {
      const float* key = keys.data() + cache_row(r, t) * width + first;
      p[t] = lanes_dot(q.data() + r * width + first, key, head_dim) * scale;
      best = p[t] > best ? p[t] : best;
    }
    for (int64_t t = 0; t < context; ++t) p[t] = exp_f32(p[t] - best);
    const float sum = lanes_sum(p, context);
    std::vector<float> turn(static_cast<size_t>(head_dim));
    for (int64_t t = 0; t < context;) {
      std::fill(turn.begin(), turn.end(), 0.0F);
      for (const int64_t end = std::min(t + kTurn, context); t < end; ++t) {
        const float* value = values.data() + cache_row(r, t) * width + first;
        add_scaled(p[t] / sum, value, head_dim, turn.data());
      }
      for (int64_t i = 0; i < head_dim; ++i) out[r * width + first + i] += turn[i];
    }
  }
};

}  // namespace

Results evaluate_embed(const Evaluation& e) {
  const Elements<int32_t> ids(e.in[0]), positions(e.in[1]);
  const Type& table_type = e.in[2].type;
  const int64_t vocabulary = table_type.size(0) * (table_type.rank() == 3 ? kLanes : 1);
  const int64_t d = e.types[0].size(1);
  const Matrix table(e.in[2], vocabulary);
  const Sinusoids sinusoids{Elements<float>(e.in[3]), e.in[3].type.rank() == 2, d,
                            e.node.attrs.padding};
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t r = 0; r < ids.size(); ++r, out += d) {
      check(ids[r] >= 0 && ids[r] < vocabulary, "embed: id {} of {}", ids[r], vocabulary);
      check(positions[r] >= 0, "embed: position {}", positions[r]);
      table.row(ids[r], out);
      for (int64_t i = 0; i < d; ++i) {
        out[i] = out[i] * e.node.attrs.scale + sinusoids(positions[r], i);
      }
    }
  });
}

Results evaluate_layer_norm(const Evaluation& e) {
  const Elements<float> x(e.in[0]), weight(e.in[1]), bias(e.in[2]);
  const int64_t rows = e.types[0].size(0), d = e.types[0].size(1);
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t r = 0; r < rows; ++r, out += d) {
      norm_line(x.data() + r * d, d, e.node.attrs.eps, out);
      for (int64_t i = 0; i < d; ++i) out[i] = out[i] * weight[i] + bias[i];
    }
  });
}

Results evaluate_linear(const Evaluation& e) {
  const Elements<float> x(e.in[0]);
  const int64_t rows = e.types[0].size(0), n = e.types[0].size(1);
  return make<float>(e.types[0], [&](float* out) {
    multiply(x.data(), rows, Matrix(e.in[1], n), out, e.threads);
    if (e.in.size() > 2) {
      const Elements<float> bias(e.in[2]);
      for (int64_t i = 0; i < rows * n; ++i) out[i] += bias[i % n];
    }
    for (int64_t i = 0; i < rows * n; ++i) out[i] = activation(e.node.attrs.activation, out[i]);
    if (e.in.size() > 3) {
      const Elements<float> residual(e.in[3]);
      for (int64_t i = 0; i < rows * n; ++i) out[i] += residual[i];
    }
  });
}

Results evaluate_activate(const Evaluation& e) {
  const Elements<float> x(e.in[0]);
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t i = 0; i < x.size(); ++i) out[i] = activation(e.node.attrs.activation, x[i]);
  });
}

Results evaluate_attend(const Evaluation& e) {
  const Attention attention(e);
  attention.check_reads();
  return make<float>(e.types[0], [&](float* out) {
    parallel(e.threads, attention.rows, [&](int64_t r) {
      std::vector<float> p(static_cast<size_t>(attention.length[r]));
      for (int64_t first = 0; first < attention.width; first += attention.head_dim) {
        attention.head(r, first, p.data(), out);
      }
    });
  });
}

Results evaluate_project_top_k(const Evaluation& e) {
  const int64_t rows = e.in[0].type.size(0), n = e.node.attrs.dims[0];
  const Type logits_type{DType::f32, {rows, n}};
  const Results logits = evaluate_linear({e.node, e.in, {logits_type}, e.threads});
  Results results = evaluate_top_k({e.node, logits, e.types, e.threads});
  results.push_back(evaluate_log_sum_exp({e.node, logits, {e.types[2]}, e.threads})[0]);
  return results;
}

}  // namespace ng
