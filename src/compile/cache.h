// Where are the bundles of checkpoint directories that commands were given as they are?
//
// $NEUROGLOT_HOME, else $XDG_CACHE_HOME/neuroglot, else ~/.cache/neuroglot:
//   bundles/           a DiskCache of bundles: a KEY is a SHA-256 of the source files' hashes, the
//                      options that decide the bundle's bytes and the build; a label is the
//                      checkpoint's path
//   sources.json       SHA-256 of source files, believed while inode, size and time are the same
#pragma once

#include "base/disk_cache.h"
#include "compile/compile.h"

namespace ng {

inline constexpr uint64_t kCacheBytes = uint64_t{50} << 30;  // of all bundles together

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

std::vector<CacheEntry> cache_entries();  // the last used first
Cleared clear_cache();                    // removes every bundle that is not in use

}  // namespace ng
