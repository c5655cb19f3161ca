// The CPU's mathematics: what each kernel computes, to the bit, and the table of them for each
// instruction set. Pointers and sizes only; every shape was checked when the plan was made.
//
// The order of every float sum is fixed (docs/numerics.md), so that a result does not depend on the
// instruction set, the batch, the tiles or the threads:
//   chain   acc = +0; acc = fma(a[i], b[i], acc) for i ascending
//   lanes   16 accumulators, element i goes to lane i mod 16, each lane a chain; then the tree
//           l[i] += l[i+8], l[i] += l[i+4], l[i] += l[i+2], l[0] + l[1]
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng {

enum class Activation : uint8_t { none, relu, gelu, silu };

// Matrices are packed in panels of 16 outputs: element (j, i) of a weight [n, k] stands at
// [j / 16][i][j % 16]; the last panel is filled with zeros.
inline constexpr int64_t kPanel = 16;
// Log-sum-exp runs over vocabulary tiles of this many ids, in ascending order.
inline constexpr int64_t kTile = 1024;

// out[r, j] = activation(chain over k of a[r, :], b[j, :] + bias[j]) + residual[r, j],
// every + one rounding; for all rows and the outputs of panels [first_panel, last_panel).
struct Linear {
  const float* a;         // [rows, k], rows a_stride floats apart
  const void* b;          // panels, float or bf16 (widened exactly)
  const float* bias;      // [n] or null
  const float* residual;  // [rows, n], rows residual_stride apart, or null; may be `out`
  float* out;             // [rows, n], rows out_stride apart
  int64_t a_stride, residual_stride, out_stride;
  int64_t rows, k, n;
  int64_t first_panel, last_panel;
  Activation activation;
};

// Attention of queries to cache rows. For row r, head h, with c(r, t) the cache row of position t:
//   s[t] = lanes(q[r,h,:], keys[c(r,t),h,:]) * scale              t = 0 … length[r]-1
//   e[t] = exp(s[t] - max s);  p[t] = e[t] / lanes(e)
//   out[r,h,i] = +0, then + the chain of p[t], values[c(r,t),h,i] over each 32 positions, ascending
// c(r, t) = history[r, min(t, n-1)] + max(0, t - (n-1)): n = 1 reads a run of rows. length[r] ≥ 1.
struct Attend {
  const float* q;          // [rows, heads · head_dim]
  const float* keys;       // [cache, heads · head_dim]
  const float* values;     // [cache, heads · head_dim]
  const int32_t* history;  // [rows, n], rows history_stride apart
  const int32_t* length;   // [rows]
  float* out;              // [rows, heads · head_dim]
  float* scratch;          // attend_scratch(max length) floats of the calling thread
  int64_t q_stride, kv_stride, out_stride, history_stride, history_size /* n */;
  int64_t first_row, last_row;    // the rows to compute
  int64_t first_head, last_head;  // the heads to compute
  int64_t head_dim;
  float scale;
};

// out[r,:] = ((x - mean) * (1 / sqrt(variance + eps))) * weight + bias, each operation rounded
// once; mean = lanes(x, 1) / d, variance = lanes(x - mean, x - mean) / d. lanes(x, 1): plain
// additions.
struct LayerNorm {
  const float* x;  // [rows, d]
  const float* weight;
  const float* bias;  // [d]
  float* out;         // [rows, d]; may be x
  int64_t rows, d;
  float eps;
};

// out[r, i] = table[id, i] * scale + P[position, i], two roundings.
// P[p, i] = sin(p · f[i]) for i < h, cos(p · f[i-h]) for h ≤ i < 2h, else 0, with h = d / 2 and the
// product rounded to float; a row with position == padding_position has P = 0.
struct Embed {
  const void* table;         // panels of [vocabulary, d], float or bf16
  const int32_t* ids;        // [rows], in [0, vocabulary)
  const int32_t* positions;  // [rows], ≥ 0
  const float* frequencies;  // [d / 2]
  float* out;                // [rows, d]
  int64_t rows, d;
  int32_t padding_position;
  float scale;
};

// One tile's share of a log-sum-exp: max and lanes(exp(x - max)).
struct TileSum {
  float max, sum;
};

// The k best so far of one row, best first: higher score, then lower id.
struct Best {
  float* scores;  // [k]
  int32_t* ids;   // [k]
  int64_t k, count;
};

struct Kernels {
  const char* name;  // "generic", "avx2", "avx512": the values of NEUROGLOT_ISA
  bool (*supported)() noexcept;
  void (*linear_f32)(const Linear&) noexcept;
  void (*linear_bf16)(const Linear&) noexcept;
  void (*attend)(const Attend&) noexcept;
  void (*layer_norm)(const LayerNorm&) noexcept;
  void (*embed_f32)(const Embed&) noexcept;
  void (*embed_bf16)(const Embed&) noexcept;
  TileSum (*tile_sum)(const float* x, int64_t n) noexcept;  // 1 ≤ n ≤ kTile
  // Offers scores[0..n) with ids first_id, first_id + 1, …; scores are not NaN.
  void (*top_k)(const float* scores, int64_t n, int32_t first_id, Best& best) noexcept;
  // Element by element, for the tests and for graphs that were not fused. out may be x.
  void (*exp)(const float* x, float* out, int64_t n) noexcept;
  void (*activate)(Activation activation, const float* x, float* out, int64_t n) noexcept;
};

// At most this many consecutive rows with the same run (n = 1) are attended together.
inline constexpr int64_t kSharedRows = 8;
// Floats of scratch that `attend` needs for histories of at most `length`.
int64_t attend_scratch(int64_t length);

// Running log-sum-exp over ascending tiles: start with {-inf, 0}; then
//   m = max(a.max, b.max); sum = a.sum · exp(a.max - m) + b.sum · exp(b.max - m)  (each rounded)
TileSum combine(TileSum a, TileSum b);
float log_sum_exp(TileSum total);  // total.max + log(total.sum), log by our polynomial

// Every table this build has, fastest first; generic is last and runs everywhere.
struct KernelList {
  const Kernels* const* begin;
  size_t size;
};
KernelList all_kernels();
// The first supported one, or the one called `wanted` (null or "": any). Null when there is none of
// that name or the CPU lacks it.
const Kernels* select_kernels(const char* wanted);

}  // namespace ng
