// Which kernels does this CPU run, and the few scalar steps that no instruction set changes.
#include <string_view>

#include "kernels/kernels.h"
#include "tensor/math.h"

namespace ng {

extern const Kernels kAvx512, kAvx2, kGeneric;

KernelList all_kernels() {
  static constexpr const Kernels* kAll[] = {&kAvx512, &kAvx2, &kGeneric};
  return {kAll, std::size(kAll)};
}

const Kernels* select_kernels(const char* wanted) {
  const std::string_view name = wanted ? wanted : "";
  const KernelList all = all_kernels();
  for (size_t i = 0; i < all.size; ++i) {
    const Kernels* kernels = all.begin[i];
    if ((name.empty() || name == kernels->name) && kernels->supported()) return kernels;
  }
  return nullptr;
}

int64_t attend_scratch(int64_t length) { return kSharedRows * ((length + 15) / 16 * 16); }

TileSum combine(TileSum a, TileSum b) {
  const float m = a.max > b.max ? a.max : b.max;
  return {m, a.sum * exp_f32(a.max - m) + b.sum * exp_f32(b.max - m)};
}

float log_sum_exp(TileSum total) { return total.max + log_f32(total.sum); }

}  // namespace ng
