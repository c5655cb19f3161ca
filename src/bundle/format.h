// The names and numbers of docs/bundle.md that reader and writer share.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace ng {

inline constexpr std::string_view kSchema = "neuroglot bundle";
inline constexpr std::string_view kManifestName = "manifest.json", kHashName = "manifest.sha256",
                                  kWeightsName = "weights.bin";
inline constexpr size_t kWeightAlignment = 64;
inline constexpr JsonLimits kManifestLimits = {size_t{64} << 20, 64};

inline std::string graph_file(std::string_view name) {
  return "graphs/" + std::string(name) + ".txt";
}
inline std::string module_file(const std::string& module) { return "hlo/" + module + ".pb"; }
inline std::string program_file(const std::string& module) { return "neff/" + module + ".neff"; }

// What manifest.sha256 holds: a line for `sha256sum -c`.
inline std::string hash_line(const std::string& sha256) { return sha256 + "  manifest.json\n"; }

}  // namespace ng
