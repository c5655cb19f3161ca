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

inline std::string graph_file(std::string_view phase) {
  return "graphs/" + std::string(phase) + ".txt";
}
inline std::string module_file(const std::string& module) { return "hlo/" + module + ".pb"; }
inline std::string program_file(const std::string& module) { return "neff/" + module + ".neff"; }

// "hlo/x.pjrt.pb": a target's own file, where it differs from the one of that name.
inline std::string own_file(std::string name, const std::string& target) {
  return name.insert(name.rfind('.'), "." + target);
}

// What manifest.sha256 holds: a line for `sha256sum -c`.
inline std::string hash_line(const std::string& sha256) { return sha256 + "  manifest.json\n"; }

}  // namespace ng
