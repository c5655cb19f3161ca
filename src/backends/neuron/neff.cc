#include "backends/neuron/neff.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace ng {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kUpdateRuntime =
    "sudo apt-get update && sudo apt-get install --only-upgrade aws-neuronx-runtime-lib "
    "aws-neuronx-collectives";
constexpr std::string_view kUpdateDriver =
    "sudo apt-get update && sudo apt-get install --only-upgrade aws-neuronx-dkms";
constexpr std::string_view kUpdateCompiler =
    "pip install --upgrade 'neuronx-cc==2.*' --extra-index-url "
    "https://pip.repos.neuron.amazonaws.com";

template <size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

template <size_t N>
std::string hex_of(const uint8_t (&field)[N]) {
  std::string text;
  for (const uint8_t byte : field) text += fmt::format("{:02x}", byte);
  return text;
}

// SDK, compiler/neuronx-cc/faq.rst: compiler and runtime of one major number work together.
void check_majors(const NeuronVersion& compiler, const NeuronVersion& runtime,
                  std::string_view what) {
  check(compiler.major() <= runtime.major(),
        "{}: was made by neuronx-cc {}, and the Neuron runtime {} here is older, of another major "
        "version: {}",
        what, compiler.text, runtime.text, kUpdateRuntime);
  check(compiler.major() >= runtime.major(),
        "{}: was made by neuronx-cc {}, which is older than the Neuron runtime {} here, of another "
        "major version: {}, then `neuroglot compile` again",
        what, compiler.text, runtime.text, kUpdateCompiler);
}

// SDK, release-notes/components/runtime.rst: driver 2.29 needs runtime 2.33, or nrt_init() fails.
void check_driver(const NeuronVersion& runtime, const NeuronVersion& driver) {
  const auto at_least = [](const NeuronVersion& version, uint32_t minor) {
    return version >= NeuronVersion{{2, minor, 0, 0}, ""};
  };
  check(!at_least(driver, 29) || at_least(runtime, 33),
        "the Neuron runtime {} is older than the driver {} allows (2.33 at least): {}",
        runtime.text, driver.text, kUpdateRuntime);
  check(driver.major() >= runtime.major(),
        "the Neuron driver {} is older than the runtime {}, of another major version: {}",
        driver.text, runtime.text, kUpdateDriver);
}

}  // namespace

NeffHeader read_neff_header(std::span<const std::byte> file, std::string_view what) {
  NeffHeaderBytes bytes;
  check(file.size() >= sizeof bytes, "{}: is no NEFF: it has {} bytes, the header alone {}", what,
        file.size(), sizeof bytes);
  std::memcpy(&bytes, file.data(), sizeof bytes);
  check(bytes.header_bytes == sizeof bytes,
        "{}: is no NEFF: its header says it has {} bytes, not {}", what, bytes.header_bytes,
        sizeof bytes);
  check(bytes.data_bytes > 0 && bytes.data_bytes <= file.size() - sizeof bytes,
        "{}: is cut short: {} bytes after the header, which says {}; copy it again", what,
        file.size() - sizeof bytes, bytes.data_bytes);
  NeffHeader header;
  header.package_version = bytes.package_version;
  header.data_bytes = bytes.data_bytes;
  header.major = bytes.major;
  header.minor = bytes.minor;
  header.compiler_build = text_of(bytes.compiler_build);
  header.name = text_of(bytes.name);
  header.cores = bytes.cores;
  header.requested_cores = bytes.requested_cores;
  header.lnc = bytes.lnc;
  header.hash = hex_of(bytes.hash);
  header.uuid = hex_of(bytes.uuid);
  header.features = bytes.features;
  return header;
}

std::string describe(const NeffHeader& header) {
  return fmt::format(
      "name             {}\n"
      "compiler         {}{}\n"
      "NEFF version     {}.{} (package {})\n"
      "cores            {} (requested {})\n"
      "lnc              {}\n"
      "feature bits     {:#x}\n"
      "data             {} bytes\n"
      "hash             {}\n"
      "uuid             {}\n",
      shown(header.name, 256), shown(header.compiler_build, 128),
      is_emulated(header) ? " (a stand-in: HLO, no machine code)" : "", header.major, header.minor,
      header.package_version, header.cores, header.requested_cores, header.lnc, header.features,
      header.data_bytes, header.hash, header.uuid);
}

bool is_emulated(const NeffHeader& header) {
  return header.compiler_build.starts_with(kEmulatedBuild);
}

std::optional<NeuronVersion> compiler_of(const NeffHeader& header) {
  std::string_view build = header.compiler_build;
  if (is_emulated(header)) build.remove_prefix(kEmulatedBuild.size());
  return parse_neuron_version(build);
}

void check_neff_compiler(const NeffHeader& header, const NeuronVersion& expected,
                         std::string_view what) {
  const auto compiler = compiler_of(header);
  check(compiler.has_value(), "{}: its compiler's version is not understood: \"{}\"", what,
        shown(header.compiler_build));
  check(*compiler >= expected,
        "{}: was made by neuronx-cc {}, which is older than the bundle's {}: {} where it was "
        "compiled, then compile it again",
        what, compiler->text, expected.text, kUpdateCompiler);
  check(*compiler <= expected,
        "{}: was made by neuronx-cc {}; the bundle's compiler {} is older: {}, then `neuroglot "
        "compile` the bundle again",
        what, compiler->text, expected.text, kUpdateCompiler);
}

void check_neff_runs(const NeffHeader& header, const NeuronStack& stack, std::string_view what) {
  check(!is_emulated(header) || stack.emulated,
        "{}: was made by the emulated neuronx-cc and holds no machine code: run it with --device "
        "emulated, or compile with AWS's neuronx-cc",
        what);
  check(is_emulated(header) || !stack.emulated,
        "{}: is a real NEFF, which the emulated runtime cannot run: --device neuron", what);
  if (stack.runtime && stack.driver) check_driver(*stack.runtime, *stack.driver);
  const auto compiler = compiler_of(header);
  if (compiler && stack.runtime) check_majors(*compiler, *stack.runtime, what);
  const uint64_t unknown = stack.features ? header.features & ~*stack.features : 0;
  check(unknown == 0,
        "{}: has the feature bits {:#x}, which the Neuron runtime{}{} here does not know: the "
        "runtime is older than neuronx-cc {}: {}",
        what, unknown, stack.runtime ? " " : "", stack.runtime ? stack.runtime->text : "",
        shown(header.compiler_build), kUpdateRuntime);
  check(header.lnc <= 1 ? stack.lnc <= 1 : header.lnc == stack.lnc,
        "{}: was compiled for logical cores of {} physical ones, here they have {}: "
        "export NEURON_LOGICAL_NC_CONFIG={}",
        what, header.lnc, stack.lnc, std::max(header.lnc, 1U));
}

}  // namespace ng
