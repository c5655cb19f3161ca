#include "compile/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "bundle/bundle.h"
#include "compile/source_hashes.h"

namespace ng {

extern const char* const kBuildId;  // of the sources that decide a bundle's bytes: CMakeLists.txt

namespace {

constexpr size_t kKeySize = 64;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

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

Path bundles_directory() { return cache_root() / "bundles"; }
Path lock_path(const std::string& key) { return bundles_directory() / (key + ".lock"); }

// One attempt: the descriptor of the locked file, or -1 when somebody else has it and `operation`
// does not wait. A file that was removed meanwhile is no lock: another attempt.
int lock_file(const Path& path, int operation) {
  while (true) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    check(
        fd >= 0,
        "{}: cannot be made: {}; set NEUROGLOT_HOME to a directory that can be written, or make a "
        "bundle with `neuroglot compile`",
        path.string(), std::strerror(errno));
    int result = 0;
    do result = ::flock(fd, operation);
    while (result != 0 && errno == EINTR);
    const int error = errno;  // before stat() says its own
    struct stat held = {}, present = {};
    const bool is_there = ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &present) == 0 &&
                          held.st_ino == present.st_ino && held.st_dev == present.st_dev;
    if (result == 0 && is_there) return fd;
    ::close(fd);
    if (result == 0 || (error == EWOULDBLOCK && !is_there)) continue;
    check(error == EWOULDBLOCK, "{}: cannot be locked: {}", path.string(), std::strerror(error));
    return -1;
  }
}

bool is_key(const std::string& name) {
  return name.size() == kKeySize && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string key_of(const std::map<std::string, std::string>& hashes,
                   const CompileOptions& options) {
  const Json key = {{"build", kBuildId},
                    {"dtype", name(options.dtype)},
                    {"sources", hashes},
                    {"target", options.target}};
  return sha256(key.dump());
}

// What DirectoryWriter and remove_entry leave behind when they are killed (.KEY.…), and locks
// without a bundle. The key's lock tells whether somebody is at it; that of `held` is the caller's,
// who has not begun.
void remove_leftovers(const std::string& held) {
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(bundles_directory(), ignored)) {
    const std::string name = file.path().filename();
    const bool partial = name.starts_with('.');
    const std::string key = name.substr(partial ? 1 : 0, kKeySize);
    const bool has_bundle = std::filesystem::exists(bundles_directory() / key, ignored);
    if (!is_key(key) || (has_bundle && !partial)) continue;
    const auto lock = key == held ? std::nullopt : FileLock::try_exclusive(lock_path(key));
    if (partial && (lock || key == held)) std::filesystem::remove_all(file.path(), ignored);
    if (lock && !has_bundle) std::filesystem::remove(lock_path(key), ignored);
  }
}

// The bundle of a key, or nothing with the reason why it cannot be used.
std::optional<Bundle> try_open(const Path& path, std::string& reason) {
  try {
    return Bundle::open(path);
  } catch (const Error& error) {
    reason = error.what();
    return std::nullopt;
  }
}

// Renamed first: what is there under its own name is always complete. For the lock's holder.
void discard(const std::string& key) {
  const Path doomed = bundles_directory() / fmt::format(".{}.{}.partial", key, ::getpid());
  std::error_code ignored;
  std::filesystem::rename(bundles_directory() / key, doomed, ignored);
  std::filesystem::remove_all(doomed, ignored);
}

bool remove_entry(const CacheEntry& entry) {
  const auto lock = FileLock::try_exclusive(lock_path(entry.key));
  if (!lock) return false;
  discard(entry.key);
  std::error_code ignored;
  std::filesystem::remove(lock_path(entry.key), ignored);
  return true;
}

void make_room(uint64_t bytes, uint64_t limit) {
  std::vector<CacheEntry> entries = cache_entries();
  uint64_t total = 0;
  for (const CacheEntry& entry : entries) total += entry.bytes;
  for (; !entries.empty(); entries.pop_back()) {
    const uint64_t room = free_disk_bytes(bundles_directory());
    if (total + bytes <= limit && bytes <= room) break;
    if (remove_entry(entries.back())) total -= entries.back().bytes;
  }
}

void note_model(const FileLock& lock, const Path& model) {
  const std::string text = std::filesystem::canonical(model).string() + "\n";
  const bool written =
      ::ftruncate(lock.descriptor(), 0) == 0 &&
      ::pwrite(lock.descriptor(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  check(written, "{}: cannot be written: {}", bundles_directory().string(), std::strerror(errno));
}

// Compiles into the cache. Everything is read after it was hashed: if a file changes meanwhile, the
// bundle is not what its key says and goes.
void fill(const std::string& key, const Path& model, CompileOptions options, Progress& progress) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const Path path = bundles_directory() / key;
  progress.say(fmt::format("compiling {} into {}", model.string(), path.string()));
  options.force = false;
  compile(checkpoint, options, path, progress);
  const auto hashes =
      source_hashes(source_files(checkpoint), cache_root() / "sources.json", progress);
  if (hashes == options.known_hashes) return;
  discard(key);
  fail("{}: was changed while it was compiled: try again", model.string());
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

std::optional<CachedBundle> find_bundle(const std::string& key, const std::function<void()>& wait) {
  FileLock lock(lock_path(key), FileLock::Kind::Shared, wait);
  std::string ignored;
  auto bundle = try_open(bundles_directory() / key, ignored);
  if (!bundle) return std::nullopt;
  ::futimens(lock.descriptor(), nullptr);
  return CachedBundle{bundles_directory() / key, std::move(lock), std::move(*bundle)};
}

}  // namespace

FileLock::FileLock(const Path& path, Kind kind, const std::function<void()>& wait) {
  const int operation = kind == Kind::Shared ? LOCK_SH : LOCK_EX;
  fd_ = lock_file(path, operation | LOCK_NB);
  if (fd_ >= 0) return;
  if (wait) wait();
  fd_ = lock_file(path, operation);
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<FileLock> FileLock::try_exclusive(const Path& path) {
  const int fd = lock_file(path, LOCK_EX | LOCK_NB);
  if (fd < 0) return std::nullopt;
  return FileLock(fd);
}

CachedBundle cached_bundle(const Path& model, const CompileOptions& options, Progress& progress,
                           uint64_t limit) {
  const auto sources = source_files(Checkpoint::open(model));
  std::error_code error;
  std::filesystem::create_directories(bundles_directory(), error);  // lock_file says what is wrong
  CompileOptions known = options;
  known.known_hashes = source_hashes(sources, cache_root() / "sources.json", progress);
  const std::string key = key_of(known.known_hashes, options);
  known.make_room = [limit](uint64_t bytes) { make_room(bytes, limit); };
  const auto wait = [&] { progress.say("waiting for another process that compiles this model"); };
  for (bool filled = false;; filled = true) {
    if (auto found = find_bundle(key, wait)) return std::move(*found);
    const FileLock exclusive(lock_path(key), FileLock::Kind::Exclusive, wait);
    const Path path = bundles_directory() / key;
    if (std::filesystem::exists(path, error)) {
      std::string reason;
      if (try_open(path, reason)) continue;
      check(!filled, "{}", reason);
      progress.say(fmt::format("the cache's bundle cannot be used and is made again: {}", reason));
      discard(key);
    }
    remove_leftovers(key);
    note_model(exclusive, model);
    fill(key, model, known, progress);
  }
}

std::vector<CacheEntry> cache_entries() {
  std::vector<CacheEntry> entries;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(bundles_directory(), error)) {
    CacheEntry entry;
    entry.key = file.path().filename();
    entry.path = file.path();
    if (!is_key(entry.key)) continue;
    entry.bytes = bytes_in(entry.path);
    struct stat status = {};
    if (::stat(lock_path(entry.key).c_str(), &status) == 0) {
      entry.last_used = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
      std::ifstream lock(lock_path(entry.key));
      std::getline(lock, entry.model);
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const CacheEntry& a, const CacheEntry& b) {
    return std::pair(-a.last_used, a.key) < std::pair(-b.last_used, b.key);
  });
  return entries;
}

Cleared clear_cache() {
  Cleared cleared;
  const std::vector<CacheEntry> entries = cache_entries();
  for (const CacheEntry& entry : entries) {
    if (!remove_entry(entry)) {
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
