// Who may touch a file that several processes share? One lock, which dies with its holder.
#pragma once

#include <functional>
#include <optional>

#include "base/file.h"

namespace ng {

// A lock (flock) on a file, held until the end of the object or of the process, however it ends.
class FileLock {
 public:
  enum class Kind { Shared, Exclusive };
  // Creates the file where it is missing. Somebody else has it: calls `wait` and waits.
  FileLock(const Path& path, Kind kind, const std::function<void()>& wait);
  static std::optional<FileLock> try_lock(const Path& path, Kind kind);  // empty: somebody has it
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

  int descriptor() const { return fd_; }

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace ng
