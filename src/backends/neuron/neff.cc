#include "backends/neuron/neff.h"

#include <bit>
#include <cstring>

#include "backends/neuron/nrt_status.h"
#include "base/error.h"

namespace ng {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kUpdateCompiler =
    "that compiler is the older: pip install --upgrade 'neuronx-cc==2.*' --extra-index-url "
    "https://pip.repos.neuron.amazonaws.com";

template <size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

template <size_t N>
std::string hex_of(const uint8_t (&field)[N]) {
  return fmt::format("{:02x}", fmt::join(field, ""));
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
  return {bytes.package_version,
          bytes.data_bytes,
          bytes.major,
          bytes.minor,
          text_of(bytes.compiler_build),
          text_of(bytes.name),
          bytes.cores,
          bytes.requested_cores,
          bytes.lnc,
          hex_of(bytes.hash),
          hex_of(bytes.uuid),
          bytes.features};
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

void check_neff_compiler(const NeffHeader& header, const NeffHeader& first, std::string_view what) {
  if (header.compiler_build == first.compiler_build) return;
  const auto own = compiler_of(header), other = compiler_of(first);
  const bool known = own && other && *own != *other;
  fail("{}: was made by neuronx-cc \"{}\", others of the bundle by \"{}\": compile all with one{}",
       what, shown(header.compiler_build, 128), shown(first.compiler_build, 128),
       known ? fmt::format(", not {}: {}", std::min(*own, *other).text, kUpdateCompiler) : "");
}

void check_neff_runs(const NeffHeader& header, const NeuronStack& stack, std::string_view what) {
  check(!is_emulated(header) || stack.emulated,
        "{}: was made by the emulated neuronx-cc and holds no machine code: run it with --device "
        "emulated, or compile with AWS's neuronx-cc",
        what);
  check(is_emulated(header) || !stack.emulated,
        "{}: is a real NEFF, which the emulated runtime cannot run: --device neuron", what);
  const auto compiler = compiler_of(header);
  // SDK, compiler/neuronx-cc/faq.rst: compiler and runtime of one major number work together.
  if (compiler && stack.runtime && compiler->major() != stack.runtime->major()) {
    fail("{}: was made by neuronx-cc {}, the runtime here is {}, of another major version: {}",
         what, compiler->text, stack.runtime->text,
         *compiler < *stack.runtime ? kUpdateCompiler : nrt::kUpdateRuntime);
  }
  check(header.lnc <= 1 ? stack.lnc <= 1 : header.lnc == stack.lnc,
        "{}: was compiled for logical cores of {} physical ones, here they have {}: "
        "export NEURON_LOGICAL_NC_CONFIG={}",
        what, header.lnc, stack.lnc, std::max(header.lnc, 1U));
}

}  // namespace ng
