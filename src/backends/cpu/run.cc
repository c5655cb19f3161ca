#include "backends/cpu/run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace ng {
namespace {

constexpr size_t kPanelBytes = size_t{256} << 10;  // of a matrix that one piece of work streams
constexpr int64_t kRowBlock = 128;                 // rows that one piece of work computes

int64_t blocks(int64_t total, int64_t block) { return (total + block - 1) / block; }

// A buffer of the calling thread that keeps its memory from call to call.
float* thread_scratch(size_t floats) {
  thread_local std::vector<float> scratch;
  if (scratch.size() < floats) scratch.resize(floats);
  return scratch.data();
}

Activation kernel_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::none: return Activation::none;
    case ActivationKind::relu: return Activation::relu;
    case ActivationKind::gelu: return Activation::gelu;
    case ActivationKind::silu: return Activation::silu;
  }
  return Activation::none;
}

void call_linear(const Kernels& kernels, DType dtype, const Linear& args) {
  (dtype == DType::bf16 ? kernels.linear_bf16 : kernels.linear_f32)(args);
}

// Panels of k inputs that fit kPanelBytes, at least 1.
int64_t panels_a_piece(DType dtype, int64_t k) {
  const size_t bytes = byte_size(dtype) * static_cast<size_t>(kPanel * std::max<int64_t>(k, 1));
  return std::clamp<int64_t>(static_cast<int64_t>(kPanelBytes / bytes), 1, 16);
}

void run_linear(const StepRun& run) {
  const Type x = run.type(0), matrix = run.type(1), out = run.result_type();
  Linear args = {};
  args.a = run.inputs[0].f32();
  args.a_stride = run.inputs[0].stride;
  args.b = run.inputs[1].data;
  args.bias = run.inputs.size() > 2 ? run.inputs[2].f32() : nullptr;
  args.out = run.results[0].f32();
  args.out_stride = run.results[0].stride;
  if (run.inputs.size() > 3) {
    args.residual = run.inputs[3].f32();
    args.residual_stride = run.inputs[3].stride;
  }
  args.k = x.size(1);
  args.n = out.size(1);
  args.activation = kernel_activation(run.node().attrs.activation);
  const int64_t rows = x.size(0), panels = blocks(args.n, kPanel);
  const int64_t piece = panels_a_piece(matrix.dtype, args.k);
  const int64_t columns = blocks(panels, piece), row_blocks = blocks(rows, kRowBlock);
  run.threads.run(static_cast<size_t>(columns * row_blocks), [&](size_t at) {
    const auto unit = static_cast<int64_t>(at);
    const int64_t first_row = unit % row_blocks * kRowBlock;
    Linear part = args;
    part.rows = std::min(kRowBlock, rows - first_row);
    part.a += first_row * args.a_stride;
    part.out += first_row * args.out_stride;
    if (part.residual != nullptr) part.residual += first_row * args.residual_stride;
    part.first_panel = unit / row_blocks * piece;
    part.last_panel = std::min(panels, part.first_panel + piece);
    call_linear(run.kernels, matrix.dtype, part);
  });
}

// Calls body(first, size) for blocks of rows, on all threads.
template <class Body>
void over_rows(const StepRun& run, int64_t rows, int64_t block, Body body) {
  run.threads.run(static_cast<size_t>(blocks(rows, block)), [&](size_t at) {
    const int64_t first = static_cast<int64_t>(at) * block;
    body(first, std::min(block, rows - first));
  });
}

void run_embed(const StepRun& run) {
  const Type table = run.type(2), out = run.result_type();
  Embed args = {};
  args.table = run.inputs[2].data;
  args.frequencies = run.inputs[3].f32();
  args.d = out.size(1);
  args.padding_position = static_cast<int32_t>(run.node().attrs.padding);
  args.scale = run.node().attrs.scale;
  const auto kernel = table.dtype == DType::bf16 ? run.kernels.embed_bf16 : run.kernels.embed_f32;
  over_rows(run, out.size(0), 4, [&](int64_t first, int64_t rows) {
    Embed part = args;
    part.ids = run.inputs[0].s32() + first;
    part.positions = run.inputs[1].s32() + first;
    part.out = run.results[0].f32() + first * args.d;
    part.rows = rows;
    kernel(part);
  });
}

void run_layer_norm(const StepRun& run) {
  const Type out = run.result_type();
  const int64_t d = out.size(1);
  NG_CHECK(run.inputs[0].stride == d, "a slice is normalised");
  over_rows(run, out.size(0), 8, [&](int64_t first, int64_t rows) {
    const int64_t offset = first * d;
    run.kernels.layer_norm({run.inputs[0].f32() + offset, run.inputs[1].f32(), run.inputs[2].f32(),
                            run.results[0].f32() + offset, rows, d, run.node().attrs.eps});
  });
}

void run_activate(const StepRun& run) {
  const Type out = run.result_type();
  const int64_t d = out.size(-1);
  over_rows(run, out.size(0), 8, [&](int64_t first, int64_t rows) {
    for (int64_t r = first; r < first + rows; ++r) {
      run.kernels.activate(kernel_activation(run.node().attrs.activation),
                           run.inputs[0].f32() + r * run.inputs[0].stride,
                           run.results[0].f32() + r * d, d);
    }
  });
}

void run_add(const StepRun& run) {
  const Type out = run.result_type();
  const int64_t d = out.size(-1);
  over_rows(run, out.size(0), 8, [&](int64_t first, int64_t rows) {
    for (int64_t r = first; r < first + rows; ++r) {
      const float* a = run.inputs[0].f32() + r * run.inputs[0].stride;
      const float* b = run.inputs[1].f32() + r * run.inputs[1].stride;
      float* sum = run.results[0].f32() + r * d;
      for (int64_t i = 0; i < d; ++i) sum[i] = a[i] + b[i];
    }
  });
}

int64_t longest(const int32_t* length, int64_t rows) {
  return rows == 0 ? 0 : *std::max_element(length, length + rows);
}

void run_attend(const StepRun& run) {
  const Type q = run.type(0), history = run.type(3);
  const int64_t rows = q.size(0), heads = run.node().attrs.heads;
  Attend args = {};
  args.q = run.inputs[0].f32();
  args.keys = run.inputs[1].f32();
  args.values = run.inputs[2].f32();
  args.history = run.inputs[3].s32();
  args.length = run.inputs[4].s32();
  args.out = run.results[0].f32();
  args.q_stride = run.inputs[0].stride;
  args.kv_stride = run.inputs[1].stride;
  args.out_stride = run.results[0].stride;
  args.history_stride = args.history_size = history.size(1);
  args.head_dim = q.size(1) / heads;
  args.scale = run.node().attrs.scale;
  NG_CHECK(run.inputs[1].stride == run.inputs[2].stride, "keys and values differ in stride");
  const auto scratch = static_cast<size_t>(attend_scratch(longest(args.length, rows)));
  const int64_t block = 16, row_blocks = blocks(rows, block);
  run.threads.run(static_cast<size_t>(row_blocks * heads), [&](size_t at) {
    const auto unit = static_cast<int64_t>(at);
    Attend part = args;
    part.first_row = unit / heads * block;
    part.last_row = std::min(rows, part.first_row + block);
    part.first_head = unit % heads;
    part.last_head = part.first_head + 1;
    part.scratch = thread_scratch(scratch);
    run.kernels.attend(part);
  });
}

void run_write_rows(const StepRun& run) {
  const Type state = run.type(0), rows = run.type(1);
  const int64_t d = state.size(1);
  const auto bytes = static_cast<size_t>(d) * byte_size(state.dtype);
  for (int64_t r = 0; r < rows.size(0); ++r) {
    const int64_t at = run.inputs[2].s32()[r];
    if (at < 0 || at >= state.size(0)) continue;
    std::memcpy(run.results[0].f32() + at * d, run.inputs[1].f32() + r * run.inputs[1].stride,
                bytes);
  }
}

void run_log_sum_exp(const StepRun& run) {
  const Type x = run.type(0);
  const int64_t n = x.size(1);
  over_rows(run, x.size(0), 1, [&](int64_t r, int64_t) {
    const float* row = run.inputs[0].f32() + r * run.inputs[0].stride;
    TileSum total = {-std::numeric_limits<float>::infinity(), 0.0F};
    for (int64_t tile = 0; tile < n; tile += kTile) {
      total = combine(total, run.kernels.tile_sum(row + tile, std::min(kTile, n - tile)));
    }
    run.results[0].f32()[r] = log_sum_exp(total);
  });
}

// The k best of every row, kept apart for each of `groups` sets of tiles until they are joined.
struct BestOfGroups {
  int64_t rows, k, groups;
  std::vector<float> scores;   // [groups, rows, k]
  std::vector<int32_t> ids;    // [groups, rows, k]
  std::vector<int64_t> found;  // [groups, rows]

  BestOfGroups(int64_t r, int64_t best, int64_t g)
      : rows(r),
        k(best),
        groups(g),
        scores(static_cast<size_t>(g * r * best)),
        ids(scores.size()),
        found(static_cast<size_t>(g * r)) {}

  Best at(int64_t group, int64_t r) {
    const int64_t row = group * rows + r;
    return {&scores[static_cast<size_t>(row * k)], &ids[static_cast<size_t>(row * k)], k,
            found[static_cast<size_t>(row)]};
  }
  void keep(int64_t group, int64_t r, const Best& best) {
    found[static_cast<size_t>(group * rows + r)] = best.count;
  }
};

// Joins a row's groups: their union in order, best first.
void join_groups(BestOfGroups& best, int64_t r, float* scores, int32_t* ids) {
  std::vector<std::pair<float, int32_t>> all;
  for (int64_t group = 0; group < best.groups; ++group) {
    const Best part = best.at(group, r);
    for (int64_t i = 0; i < part.count; ++i) all.emplace_back(-part.scores[i], part.ids[i]);
  }
  std::sort(all.begin(), all.end());
  NG_CHECK(static_cast<int64_t>(all.size()) >= best.k, "{} candidates of {}", all.size(), best.k);
  for (int64_t i = 0; i < best.k; ++i) {
    scores[i] = -all[static_cast<size_t>(i)].first;
    ids[i] = all[static_cast<size_t>(i)].second;
  }
}

// The logits of one tile for all rows, then each row's share of the log-sum-exp and its candidates.
struct ProjectTile {
  const StepRun& run;
  Linear linear;
  DType dtype;
  BestOfGroups& best;
  std::vector<TileSum>& sums;  // [tiles, rows]

  void operator()(int64_t tile, int64_t group) const {
    const int64_t first = tile * kTile, n = std::min(kTile, linear.n - first);
    float* logits = thread_scratch(static_cast<size_t>(linear.rows * kTile));
    Linear part = linear;
    part.out = logits - first;  // output j stands at out + j
    part.out_stride = kTile;
    const int64_t last = blocks(first + n, kPanel);
    const int64_t piece = panels_a_piece(dtype, linear.k);
    for (int64_t panel = first / kPanel; panel < last; panel += piece) {
      part.first_panel = panel;
      part.last_panel = std::min(last, panel + piece);
      call_linear(run.kernels, dtype, part);
    }
    for (int64_t r = 0; r < linear.rows; ++r) {
      sums[static_cast<size_t>(tile * linear.rows + r)] =
          run.kernels.tile_sum(logits + r * kTile, n);
      Best row = best.at(group, r);
      run.kernels.top_k(logits + r * kTile, n, static_cast<int32_t>(first), row);
      best.keep(group, r, row);
    }
  }
};

void run_project_top_k(const StepRun& run) {
  const Type x = run.type(0), out = run.result_type();
  const int64_t rows = x.size(0), k = out.size(1), vocabulary = run.node().attrs.dims[0];
  Linear linear = {};
  linear.a = run.inputs[0].f32();
  linear.a_stride = run.inputs[0].stride;
  linear.b = run.inputs[1].data;
  linear.rows = rows;
  linear.k = x.size(1);
  linear.n = vocabulary;
  const int64_t tiles = blocks(vocabulary, kTile);
  const int64_t groups = std::min<int64_t>(tiles, 2L * run.threads.size());
  BestOfGroups best(rows, k, groups);
  std::vector<TileSum> sums(static_cast<size_t>(tiles * rows));
  const ProjectTile project{run, linear, run.type(1).dtype, best, sums};
  run.threads.run(static_cast<size_t>(groups), [&](size_t at) {
    const auto group = static_cast<int64_t>(at);
    for (int64_t tile = group; tile < tiles; tile += groups) project(tile, group);
  });
  over_rows(run, rows, 1, [&](int64_t r, int64_t) {
    join_groups(best, r, run.results[0].f32() + r * k,
                reinterpret_cast<int32_t*>(run.results[1].data) + r * k);
    TileSum total = {-std::numeric_limits<float>::infinity(), 0.0F};
    for (int64_t tile = 0; tile < tiles; ++tile) {
      total = combine(total, sums[static_cast<size_t>(tile * rows + r)]);
    }
    run.results[2].f32()[r] = log_sum_exp(total);
  });
}

}  // namespace

void run_step(const StepRun& run) {
  switch (run.node().op) {
    case Op::linear: return run_linear(run);
    case Op::embed: return run_embed(run);
    case Op::layer_norm: return run_layer_norm(run);
    case Op::activate: return run_activate(run);
    case Op::add: return run_add(run);
    case Op::attend: return run_attend(run);
    case Op::write_rows: return run_write_rows(run);
    case Op::log_sum_exp: return run_log_sum_exp(run);
    case Op::project_top_k: return run_project_top_k(run);
    default: NG_CHECK(false, "no kernel for {}", row(run.node().op).name);
  }
}

}  // namespace ng
