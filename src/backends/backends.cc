// Which backends are there?
#include <cstdlib>

#include "backends/backend.h"
#include "backends/cpu/cpu.h"
#include "backends/neuron/neuron.h"
#include "backends/pjrt/pjrt.h"
#include "backends/reference/reference.h"
#include "base/error.h"

namespace ng {
namespace {

PjrtFormat wanted_format() {
  const char* wanted = std::getenv("NEUROGLOT_PJRT_FORMAT");
  if (wanted == nullptr) return PjrtFormat::any;
  const std::string_view name = wanted;
  check(name == "hlo" || name == "mlir", "NEUROGLOT_PJRT_FORMAT={}: hlo or mlir", shown(name));
  return name == "hlo" ? PjrtFormat::hlo : PjrtFormat::mlir;
}

std::unique_ptr<Device> open_plugin(const DeviceOptions& options) {
  return open_pjrt({options.library, wanted_format(), options.ranks});
}

template <const char* const* kName>
std::unique_ptr<Device> open_core(const DeviceOptions& options) {
  return open_neuron(find_neuron_target(*kName), options);
}
constexpr const char *kInf2 = "inf2", *kTrn1 = "trn1", *kTrn2 = "trn2";

constexpr Backend kBackends[] = {
    {{"cpu", true, true}, open_cpu},
    {{"reference", false, false}, open_reference},
    {{"pjrt", true, false, true}, open_plugin},
    {{kInf2, true, false, true, true}, open_core<&kInf2>},
    {{kTrn1, true, false, true, true}, open_core<&kTrn1>},
    {{kTrn2, true, false, true, true}, open_core<&kTrn2>},
};

}  // namespace

std::span<const Backend> backends() { return kBackends; }

const Backend& find_backend(std::string_view name) {
  std::string known;
  for (const Backend& backend : kBackends) {
    if (backend.target.name == name) return backend;
    known += fmt::format(" {}", backend.target.name);
  }
  if (name == "inf1") find_neuron_target(name);  // says which is nearest
  fail("there is no target \"{}\"; the targets are:{}", shown(name), known);
}

}  // namespace ng
