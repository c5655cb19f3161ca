#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace ng {
namespace {

int operation_of(FileLock::Kind kind) { return kind == FileLock::Kind::Shared ? LOCK_SH : LOCK_EX; }

// One attempt: the descriptor of the locked file, or -1 when somebody else has it and `operation`
// does not wait. A file that was removed meanwhile is no lock: another attempt.
int lock_file(const Path& path, int operation) {
  while (true) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    check(fd >= 0,
          "{}: cannot be made: {}; set NEUROGLOT_HOME, where the caches are, to a directory that "
          "can be written",
          path.string(), std::strerror(errno));
    int result = 0;
    do result = ::flock(fd, operation);
    while (result != 0 && errno == EINTR);
    const int error = result == 0 ? 0 : errno;
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

}  // namespace

FileLock::FileLock(const Path& path, Kind kind, const std::function<void()>& wait) {
  fd_ = lock_file(path, operation_of(kind) | LOCK_NB);
  if (fd_ >= 0) return;
  if (wait) wait();
  fd_ = lock_file(path, operation_of(kind));
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<FileLock> FileLock::try_lock(const Path& path, Kind kind) {
  const int fd = lock_file(path, operation_of(kind) | LOCK_NB);
  if (fd < 0) return std::nullopt;
  return FileLock(fd);
}

}  // namespace ng
