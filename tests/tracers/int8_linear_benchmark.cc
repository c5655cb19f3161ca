// How fast is the int8 linear beside the float32 one? Weights are cold: every call takes the next
// matrix of a pool larger than caches.
#include <benchmark/benchmark.h>

#include <vector>

#include "int8_linear.h"
#include "kernels/kernels.h"

namespace ng::tracer {
namespace {

constexpr int64_t kPool = int64_t{256} << 20;  // bytes

std::vector<uint8_t>& pool() {
  static std::vector<uint8_t> bytes = [] {
    std::vector<uint8_t> made(static_cast<size_t>(kPool));
    for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<uint8_t>(i % 61);
    return made;
  }();
  return bytes;
}

struct Buffers {
  std::vector<float> a, out, vector;
  std::vector<int32_t> correction;
  std::vector<uint8_t> quantized;
  Buffers(int64_t rows, int64_t k, int64_t n)
      : a(static_cast<size_t>(rows * k), 0.5F),
        out(static_cast<size_t>(rows * n)),
        vector(static_cast<size_t>(n), 0.01F),
        correction(static_cast<size_t>(n)),
        quantized(static_cast<size_t>(rows * k)) {}
};

void run_f32(benchmark::State& state) {
  const int64_t rows = state.range(0), k = state.range(1), n = state.range(2);
  Buffers b(rows, k, n);
  Linear l = {};
  l.a = b.a.data();
  l.bias = b.vector.data();
  l.out = b.out.data();
  l.rows = rows;
  l.a_stride = l.k = k;
  l.out_stride = l.residual_stride = l.n = n;
  l.last_panel = n / kPanel;
  int64_t turn = 0;
  for (auto _ : state) {
    l.b = pool().data() + turn++ % (kPool / (4 * n * k)) * 4 * n * k;
    select_kernels(nullptr)->linear_f32(l);
    benchmark::DoNotOptimize(b.out.data());
  }
}

void run_int8(benchmark::State& state) {
  const int64_t rows = state.range(0), k = state.range(1), n = state.range(2);
  if (!int8_linear_supported()) return state.SkipWithError("this CPU lacks avx512_vnni");
  Buffers b(rows, k, n);
  std::vector<float> scales(static_cast<size_t>(rows));
  Int8Linear l = {};
  l.a = b.a.data();
  l.scales = l.bias = b.vector.data();
  l.correction = b.correction.data();
  l.out = b.out.data();
  l.quantized = b.quantized.data();
  l.row_scales = scales.data();
  l.rows = rows;
  l.k = k;
  l.n = n;
  int64_t turn = 0;
  for (auto _ : state) {
    l.weights = reinterpret_cast<const int8_t*>(pool().data()) + turn++ % (kPool / (n * k)) * n * k;
    int8_linear(l);
    benchmark::DoNotOptimize(b.out.data());
  }
}

const std::vector<std::vector<int64_t>> kShapes = {{1, 4, 32}, {1024}, {1024, 4096}};
BENCHMARK(run_f32)->ArgsProduct(kShapes)->Unit(benchmark::kMicrosecond);
BENCHMARK(run_int8)->ArgsProduct(kShapes)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace ng::tracer

BENCHMARK_MAIN();
