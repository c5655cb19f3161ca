// What do a bundle's modules give where they are only interpreted? The program's command line,
// whose device pjrt:interpreter runs modules as their graphs say and rounds where they round.
#include "backends/backend.h"
#include "backends/cpu/cpu.h"
#include "backends/reference/reference.h"
#include "base/error.h"
#include "compile/recording.h"

namespace ng {
namespace {

ThreadPool one_thread(1);

std::unique_ptr<Device> open_interpreter(const DeviceOptions&) {
  return std::make_unique<ModuleInterpreter>(one_thread);
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
