// Which file of a bundle has other bytes than it was written with?
#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle/format.h"

namespace ng {
namespace {

// Whether the file has the size of its row in the manifest and, with `hashed`, the hash.
bool has(const Path& path, const Json& row, bool hashed) {
  const std::string what = path.string();
  const int64_t bytes = json_int(row, "bytes", -1, what);
  const std::string hash = json_string(row, "sha256", "", what);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error || bytes < 0 || size != static_cast<uint64_t>(bytes)) return false;
  return !hashed || sha256(MappedFile::open(path)->bytes()) == hash;
}

bool is_of_another_version(const std::string& manifest) {
  const Json json = Json::parse(manifest, nullptr, false);
  return json.is_object() && json.value("version", Json()) != kBundleVersion;
}

}  // namespace

std::optional<std::string> damaged_file(const Path& path) {
  const std::string manifest = read_file(path / kManifestName, kManifestLimits.bytes);
  std::error_code ignored;
  const bool hash = std::filesystem::is_regular_file(path / kHashName, ignored);
  if (!hash || read_file(path / kHashName, 1000) != hash_line(sha256(manifest))) {
    if (is_of_another_version(manifest)) return std::nullopt;  // that is for Bundle::open to say
    return std::string(hash ? kManifestName : kHashName);
  }
  const Json json = parse_json(manifest, (path / kManifestName).string(), kManifestLimits);
  for (const char* table : {"files", "weights"}) {
    if (!json.is_object() || !json.contains(table) || !json[table].is_object()) return std::nullopt;
  }
  for (const auto& [name, row] : json["files"].items()) {
    if (row.is_object() && !has(path / name, row, true)) return name;
  }
  if (!has(path / kWeightsName, json["weights"], false)) return std::string(kWeightsName);
  return std::nullopt;
}

}  // namespace ng
