// `neuroglot devices` and `neuroglot neff info`: what could run a bundle here, and what a NEFF
// says.
#include "backends/neuron/neff.h"
#include "backends/neuron/neuron.h"
#include "backends/neuron/nrt.h"
#include "base/error.h"
#include "base/file.h"
#include "tools/opened.h"

namespace ng {
namespace {

void print_device(std::string_view name, const std::string& what) {
  fmt::print("{:<12}{}\n", name, what);
}

// A device that is not there is a line, no error: the list is what was asked for.
template <class F>
void print_found(std::string_view name, const F& describe) {
  try {
    print_device(name, describe());
  } catch (const Error& error) {
    print_device(name, fmt::format("not here: {}", error.what()));
  }
}

std::string describe(const nrt::Found& found) {
  return fmt::format("libnrt {}, {} cores visible: {}",
                     found.version ? found.version->text : "of an unknown version",
                     found.cores ? fmt::to_string(*found.cores) : "an unknown number of",
                     shown(found.path, 400));
}

}  // namespace

int devices_command(const Options& options) {
  print_device("cpu", find_backend("cpu").open({.threads = 0})->description());
  print_device("reference", "the interpreter, for comparison");
  print_found("neuron", [&] { return describe(nrt::find_runtime(options.libnrt)); });
  print_found("emulated", [] {
    return fmt::format("a stand-in for libnrt: {}", shown(emulated_library(), 400));
  });
  if (options.device.empty()) {
    print_device("pjrt", "a plugin is named on the command line: --device pjrt:PLUGIN.so");
    return 0;
  }
  check(options.device.starts_with("pjrt:"), "--device {}: pjrt:PLUGIN.so", shown(options.device));
  DeviceOptions device;
  device.library = options.device.substr(options.device.find(':') + 1);
  print_device("pjrt", find_backend("pjrt").open(device)->description());
  return 0;
}

int neff_command(const Options& options) {
  const auto file = MappedFile::open(options.model);
  fmt::print("{}", describe(read_neff_header(file->bytes(), options.model)));
  return 0;
}

}  // namespace ng
