// What do the caches on disk share, whatever they hold: locks, room for what is new, clearing?
//
// In $NEUROGLOT_HOME, else $XDG_CACHE_HOME/neuroglot, else ~/.cache/neuroglot, a directory a cache:
//   KEY        an entry: a directory that appeared complete (DirectoryWriter); KEY is a SHA-256 of
//              all that decides its bytes
//   KEY.lock   locked by who makes, removes (exclusive) or uses (shared) it; the text is the
//   entry's
//              label, the modification time its last use
// Safe with other processes, and when one is killed at any point.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_lock.h"

namespace ng {

Path cache_root();  // User: neither of the environment's variables is set

struct CacheEntry {
  std::string key, label;  // label: what it was made from, for people
  Path path;
  uint64_t bytes = 0;
  int64_t last_used = 0;  // nanoseconds since 1970
};

struct Cleared {
  size_t removed = 0, in_use = 0;
  uint64_t bytes = 0;
};

class DiskCache {
 public:
  explicit DiskCache(Path directory) : directory_(std::move(directory)) {}
  const Path& directory() const { return directory_; }
  Path entry(const std::string& key) const { return directory_ / key; }
  Path lock(const std::string& key) const { return directory_ / (key + ".lock"); }

  std::vector<CacheEntry> entries() const;  // the last used first
  // Entries that were not used for longest, and are not in use, go when with `bytes` more there
  // are more than `limit` or the disk is full.
  void make_room(uint64_t bytes, uint64_t limit) const;
  Cleared clear() const;  // removes every entry that is not in use

  // For the holder of `key`'s exclusive lock. discard() renames before it removes: what is there
  // under its own name is always complete.
  void discard(const std::string& key) const;
  void remove_leftovers(const std::string& key) const;  // of whoever was killed, at any key
  void label(const FileLock& lock, const std::string& text) const;
  static void mark_used(const FileLock& lock);  // any kind of lock

 private:
  bool remove(const CacheEntry& entry) const;  // false: in use
  Path directory_;
};

}  // namespace ng
