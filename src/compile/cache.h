// Where are the bundles of checkpoint directories that commands were given as they are?
//
// $NEUROGLOT_HOME, else $XDG_CACHE_HOME/neuroglot, else ~/.cache/neuroglot:
//   bundles/KEY        a bundle; KEY is a SHA-256 of its source files' hashes, the options that
//                      decide its bytes and the build
//   bundles/KEY.lock   locked (flock) by who makes, removes (exclusive) or uses (shared) it; the
//                      text is the checkpoint's path, the modification time the last use
//   sources.json       SHA-256 of source files, believed while inode, size and time are the same
#pragma once

#include <optional>
#include <vector>

#include "compile/compile.h"

namespace ng {

inline constexpr uint64_t kCacheBytes = uint64_t{50} << 30;  // of all bundles together

// A lock on a file, held until the end of the object or of the process.
class FileLock {
 public:
  enum class Kind { Shared, Exclusive };
  // Creates the file where it is missing. Somebody else has it: calls `wait` and waits.
  FileLock(const Path& path, Kind kind, const std::function<void()>& wait);
  static std::optional<FileLock> try_exclusive(const Path& path);  // empty: somebody has it
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

  int descriptor() const { return fd_; }

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

struct CachedBundle {
  Path path;
  FileLock in_use;  // while it is held, nobody removes the bundle
  Bundle bundle;    // opened: what is damaged is made again
};

// The bundle of the checkpoint directory `model`, compiled unless the cache has it. Bundles that
// were not used for longest, and are not in use, make room when there are more than `limit` bytes
// or the disk is full. Safe with other processes, and when one is killed at any point.
CachedBundle cached_bundle(const Path& model, const CompileOptions& options, Progress& progress,
                           uint64_t limit = kCacheBytes);

struct CacheEntry {
  std::string key, model;  // model: the directory it was compiled from
  Path path;
  uint64_t bytes = 0;
  int64_t last_used = 0;  // nanoseconds since 1970
};
std::vector<CacheEntry> cache_entries();  // the last used first

struct Cleared {
  size_t removed = 0, in_use = 0;
  uint64_t bytes = 0;
};
Cleared clear_cache();  // removes every bundle that is not in use

}  // namespace ng
