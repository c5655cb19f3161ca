// What does a NEFF (a compiled Neuron program) say of itself, and may it run here?
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "backends/neuron/version.h"

namespace ng {

// The first 1,024 bytes of a file, little endian. Facts: SDK neuron-runtime/explore/
// work-with-neff-files.rst; the offsets follow from natural alignment.
struct NeffHeaderBytes {
  uint64_t package_version, header_bytes, data_bytes, major, minor;
  char compiler_build[128];
  uint32_t cores;
  uint8_t hash[32];
  uint8_t uuid[16];
  char name[256];
  uint32_t requested_cores;
  uint8_t cores_of_node[64];
  uint64_t features;
  uint32_t lnc;
  uint8_t padding[468];
};
static_assert(sizeof(NeffHeaderBytes) == 1024 && offsetof(NeffHeaderBytes, features) == 544 &&
              offsetof(NeffHeaderBytes, name) == 220 && offsetof(NeffHeaderBytes, lnc) == 552);

struct NeffHeader {
  uint64_t package_version = 0, data_bytes = 0, major = 0, minor = 0;
  std::string compiler_build, name;  // as they are; shown() before they are printed
  uint32_t cores = 0, requested_cores = 0, lnc = 0;
  std::string hash, uuid;  // hex
  uint64_t features = 0;
};

// Not a NEFF, or cut short: User; `what` names the file.
NeffHeader read_neff_header(std::span<const std::byte> file, std::string_view what);
std::string describe(const NeffHeader& header);  // lines "name  value"

// Made by the emulated neuronx-cc: it holds HLO and no machine code.
inline constexpr std::string_view kEmulatedBuild = "emulated-";
bool is_emulated(const NeffHeader& header);
// The compiler's version; empty: the build is not understood.
std::optional<NeuronVersion> compiler_of(const NeffHeader& header);

// What is installed where a NEFF is to run; empty: unknown, and not compared.
struct NeuronStack {
  std::optional<NeuronVersion> runtime;
  uint32_t lnc = 1;
  bool emulated = false;
};

// Each refuses with a User error that says which side is older, where both builds are understood,
// and the command that mends it. A NEFF must have the build of the bundle's other NEFFs.
void check_neff_compiler(const NeffHeader& header, const NeffHeader& first, std::string_view what);
void check_neff_runs(const NeffHeader& header, const NeuronStack& stack, std::string_view what);

}  // namespace ng
