// Which backends are there?
#include <cstdlib>

#include "backends/backend.h"
#include "backends/cpu/cpu.h"
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
  return open_pjrt({options.plugin, wanted_format()});
}

constexpr Backend kBackends[] = {
    {{"cpu", true, true}, open_cpu},
    {{"reference", false, false}, open_reference},
    {{"pjrt", true, false, true}, open_plugin},
};

}  // namespace

std::span<const Backend> backends() { return kBackends; }

const Backend& find_backend(std::string_view name) {
  std::string known;
  for (const Backend& backend : kBackends) {
    if (backend.target.name == name) return backend;
    known += fmt::format(" {}", backend.target.name);
  }
  fail("there is no target \"{}\"; the targets are:{}", shown(name), known);
}

}  // namespace ng
