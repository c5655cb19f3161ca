#include "compile/source_hashes.h"

#include <sys/stat.h>

#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "compile/cache.h"

namespace ng {
namespace {

constexpr size_t kMostRemembered = 10'000;
constexpr JsonLimits kIndexLimits = {size_t{16} << 20, 4};

struct stat status_of(const Path& path) {
  struct stat status = {};
  check(::stat(path.c_str(), &status) == 0, "{}: is gone", path.string());
  return status;
}

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

// What tells that a file did not change.
Json signature(const struct stat& status) {
  return {{"device", status.st_dev},
          {"inode", status.st_ino},
          {"bytes", status.st_size},
          {"modified_ns", nanoseconds(status.st_mtim)}};
}

// A damaged index is no index.
Json read_index(const Path& path) {
  try {
    Json index = parse_json(read_file(path, kIndexLimits.bytes), path.string(), kIndexLimits);
    if (index.is_object()) return index;
  } catch (const Error&) {
  }
  return Json::object();
}

void remember(const Path& path, const Json& found) {
  const FileLock lock(Path(path).replace_extension(".lock"), FileLock::Kind::Exclusive, {});
  Json index = read_index(path), kept = Json::object();
  index.update(found);
  std::error_code unreadable;  // another model's path: no error of this one
  for (const auto& [name, row] : index.items()) {
    if (kept.size() < kMostRemembered && std::filesystem::exists(name, unreadable)) {
      kept[name] = row;
    }
  }
  write_file(path, kept.dump(1) + "\n");
}

}  // namespace

std::map<std::string, std::string> source_hashes(const std::vector<Checkpoint::Source>& sources,
                                                 const Path& index, Progress& progress) {
  const Json known = read_index(index);
  std::map<std::string, std::string> hashes;
  Json found = Json::object();
  for (const auto& source : sources) {
    const std::string path = std::filesystem::canonical(source.path).string();
    Json row = signature(status_of(path));
    const auto remembered = known.find(path);
    if (remembered != known.end() && remembered->is_object() && remembered->contains("sha256")) {
      row["sha256"] = remembered->at("sha256");
      if (row == *remembered && row["sha256"].is_string()) {
        hashes[source.name] = row["sha256"].get<std::string>();
        continue;
      }
    }
    timespec now = {};
    ::clock_gettime(CLOCK_REALTIME, &now);
    progress.begin("hashing " + source.name, source.size);
    row["sha256"] = hashes[source.name] = hash_file(path, progress);
    progress.end();
    const bool settled = row["modified_ns"].get<int64_t>() < nanoseconds(now) - 2'000'000'000;
    Json after = signature(status_of(path));
    after["sha256"] = row["sha256"];
    if (settled && after == row) found[path] = row;
  }
  if (!found.empty()) remember(index, found);
  return hashes;
}

}  // namespace ng
