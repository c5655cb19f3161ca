// What do a bundle's modules give where they are only interpreted? The program's command line,
// whose device pjrt:interpreter runs modules as their graphs say and rounds where they round.
#include "backends/backend.h"
#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "backends/xla/import_hlo.h"
#include "base/error.h"
#include "static_device_for_test.h"

namespace ng {
namespace {

class Interpreter : public Device {
 public:
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    return std::make_unique<test::StaticModule>(import_hlo(artifact, "artifact"), weights, states_);
  }
  std::string description() const override { return "interpreter"; }

 private:
  test::StaticStates states_;
};

std::unique_ptr<Device> open_interpreter(const DeviceOptions&) {
  return std::make_unique<Interpreter>();
}

constexpr Backend kBackends[] = {
    {{"cpu", true, true}, open_cpu},
    {{"reference", false, false}, open_reference},
    {{"pjrt", true, false, true}, open_interpreter},
};

}  // namespace

std::span<const Backend> backends() { return kBackends; }

const Backend& find_backend(std::string_view name) {
  for (const Backend& backend : kBackends) {
    if (backend.target.name == name) return backend;
  }
  fail("there is no target \"{}\"", shown(name));
}

}  // namespace ng
