#include "base/disk_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/error.h"

namespace ng {
namespace {

constexpr size_t kKeySize = 64;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool is_key(const std::string& name) {
  return name.size() == kKeySize && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// What goes while it is counted does not count.
uint64_t bytes_in(const Path& directory) {
  uint64_t bytes = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator part(directory, error), end;
  for (; !error && part != end; part.increment(error)) {
    std::error_code gone;
    if (part->is_regular_file(gone)) bytes += part->file_size(gone);
  }
  return bytes;
}

std::optional<FileLock> try_exclusive(const Path& path) {
  return FileLock::try_lock(path, FileLock::Kind::Exclusive);
}

}  // namespace

Path cache_root() {
  if (const std::string home = environment("NEUROGLOT_HOME"); !home.empty()) {
    return std::filesystem::absolute(home);
  }
  const Path xdg = environment("XDG_CACHE_HOME");
  if (xdg.is_absolute()) return xdg / "neuroglot";
  const Path home = environment("HOME");
  check(home.is_absolute(), "HOME is not set: set NEUROGLOT_HOME, where compiled models are kept");
  return home / ".cache" / "neuroglot";
}

std::vector<CacheEntry> DiskCache::entries() const {
  std::vector<CacheEntry> entries;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory_, error)) {
    CacheEntry entry;
    entry.key = file.path().filename();
    entry.path = file.path();
    if (!is_key(entry.key)) continue;
    entry.bytes = bytes_in(entry.path);
    struct stat status = {};
    if (::stat(lock(entry.key).c_str(), &status) == 0) {
      entry.last_used = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
      std::ifstream text(lock(entry.key));
      std::getline(text, entry.label);
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const CacheEntry& a, const CacheEntry& b) {
    return std::pair(-a.last_used, a.key) < std::pair(-b.last_used, b.key);
  });
  return entries;
}

void DiskCache::discard(const std::string& key) const {
  const Path doomed = directory_ / fmt::format(".{}.{}.partial", key, ::getpid());
  std::error_code ignored;
  std::filesystem::rename(entry(key), doomed, ignored);
  std::filesystem::remove_all(doomed, ignored);
}

bool DiskCache::remove(const CacheEntry& entry) const {
  const auto held = try_exclusive(lock(entry.key));
  if (!held) return false;
  discard(entry.key);
  std::error_code ignored;
  std::filesystem::remove(lock(entry.key), ignored);
  return true;
}

void DiskCache::make_room(uint64_t bytes, uint64_t limit) const {
  std::vector<CacheEntry> entries = this->entries();
  uint64_t total = 0;
  for (const CacheEntry& entry : entries) total += entry.bytes;
  for (; !entries.empty(); entries.pop_back()) {
    const uint64_t room = free_disk_bytes(directory_);
    if (total + bytes <= limit && bytes <= room) break;
    if (remove(entries.back())) total -= entries.back().bytes;
  }
}

// What DirectoryWriter and discard() leave behind when they are killed (.KEY.…), and locks without
// an entry. The key's lock tells whether somebody is at it; that of `key` is the caller's, who has
// not begun.
void DiskCache::remove_leftovers(const std::string& key) const {
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(directory_, ignored)) {
    const std::string name = file.path().filename();
    const bool partial = name.starts_with('.');
    const std::string other = name.substr(partial ? 1 : 0, kKeySize);
    const bool has_entry = std::filesystem::exists(entry(other), ignored);
    if (!is_key(other) || (has_entry && !partial)) continue;
    const auto held = other == key ? std::nullopt : try_exclusive(lock(other));
    if (partial && (held || other == key)) std::filesystem::remove_all(file.path(), ignored);
    if (held && !has_entry) std::filesystem::remove(lock(other), ignored);
  }
}

void DiskCache::label(const FileLock& lock, const std::string& text) const {
  const std::string line = text + "\n";
  const bool written =
      ::ftruncate(lock.descriptor(), 0) == 0 &&
      ::pwrite(lock.descriptor(), line.data(), line.size(), 0) == static_cast<ssize_t>(line.size());
  check(written, "{}: cannot be written: {}", directory_.string(), std::strerror(errno));
}

void DiskCache::mark_used(const FileLock& lock) { ::futimens(lock.descriptor(), nullptr); }

Cleared DiskCache::clear() const {
  Cleared cleared;
  for (const CacheEntry& entry : entries()) {
    if (!remove(entry)) {
      ++cleared.in_use;
      continue;
    }
    ++cleared.removed;
    cleared.bytes += entry.bytes;
  }
  remove_leftovers("");
  return cleared;
}

}  // namespace ng
