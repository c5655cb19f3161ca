// How fast is each instruction set's kernel, in GFLOP/s and in GB/s of weights, on the shapes of
// NLLB-200 600M? Weights are cold: every call takes the next matrix of a pool larger than caches.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ng {
namespace {

constexpr size_t kPool = size_t{512} << 20;  // bytes

// Small floats (valid as f32 and as pairs of bf16), on huge pages where the system allows.
std::byte* pool() {
  static std::byte* const bytes = [] {
    void* memory = std::aligned_alloc(size_t{2} << 20, kPool);
    madvise(memory, kPool, MADV_HUGEPAGE);
    auto* words = static_cast<uint32_t*>(memory);
    for (size_t i = 0; i < kPool / 4; ++i) words[i] = 0x3d003d00u + (i * 2654435761u >> 20);
    return static_cast<std::byte*>(memory);
  }();
  return bytes;
}

struct Shape {
  int64_t rows, k, n;
};

void run_linear(benchmark::State& state, const Kernels* kernels, bool bf16, Shape s) {
  const int64_t bytes = s.n * s.k * (bf16 ? 2 : 4), panels = s.n / kPanel;
  const int64_t matrices = static_cast<int64_t>(kPool) / bytes;
  const std::byte* weights = pool();
  std::vector<float> a(static_cast<size_t>(s.rows * s.k), 0.5f);
  std::vector<float> out(static_cast<size_t>(s.rows * s.n));
  int64_t turn = 0;
  for (auto _ : state) {
    Linear l = {};
    l.a = a.data();
    l.b = weights + turn * bytes;
    l.out = out.data();
    l.a_stride = l.k = s.k;
    l.residual_stride = l.out_stride = l.n = s.n;
    l.rows = s.rows;
    l.first_panel = panels * state.thread_index() / state.threads();
    l.last_panel = panels * (state.thread_index() + 1) / state.threads();
    (bf16 ? kernels->linear_bf16 : kernels->linear_f32)(l);
    benchmark::DoNotOptimize(out.data());
    turn = (turn + 1) % matrices;
  }
  const auto rate = [&](int64_t amount) {
    return benchmark::Counter(static_cast<double>(amount) / 1e9 / state.threads(),
                              benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GFLOP/s"] = rate(2 * s.rows * s.k * s.n);
  state.counters["GB/s"] = rate(bytes);
}

// One thread's reads of the pool, for comparison: what memory gives at best.
void read_memory(benchmark::State& state) {
  const auto* words = reinterpret_cast<const uint64_t*>(pool());
  const size_t share = kPool / 8 / static_cast<size_t>(state.threads());
  const size_t begin = share * static_cast<size_t>(state.thread_index());
  for (auto _ : state) {
    uint64_t sum[8] = {};
    for (size_t i = begin; i < begin + share; i += 8) {
      for (size_t j = 0; j < 8; ++j) sum[j] += words[i + j];
    }
    for (const uint64_t lane : sum) benchmark::DoNotOptimize(lane);
  }
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(share) * 8 / 1e9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void add_linear(const Kernels* kernels, bool bf16, Shape s, int threads) {
  const std::string name = std::string("linear/") + kernels->name + (bf16 ? "/bf16" : "/f32") +
                           "/m" + std::to_string(s.rows) + "/k" + std::to_string(s.k) + "/n" +
                           std::to_string(s.n);
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { run_linear(state, kernels, bf16, s); })
      ->Threads(threads)
      ->MeasureProcessCPUTime()
      ->UseRealTime();
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  using namespace ng;
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark("memory/read", read_memory)->Threads(threads)->UseRealTime();
    const KernelList all = all_kernels();
    for (size_t i = 0; i < all.size; ++i) {
      if (!all.begin[i]->supported()) continue;
      for (const bool bf16 : {false, true}) {
        for (const Shape kn : {Shape{0, 1024, 1024}, Shape{0, 1024, 4096}, Shape{0, 4096, 1024}}) {
          for (const int64_t rows : {1, 4, 8, 32, 128}) {
            add_linear(all.begin[i], bf16, {rows, kn.k, kn.n}, threads);
          }
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
