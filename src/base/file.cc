#include "base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include "base/error.h"

namespace ng {
namespace {

std::string reason() { return std::strerror(errno); }

// A file descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int value) : fd(value) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

// Opens a regular file for reading and gives its size. O_NONBLOCK: a pipe is refused, not waited
// for.
int open_regular(const Path& path, size_t& size) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail("{}: cannot be opened: {}", path.string(), reason());
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail("{}: is not a regular file", path.string());
  }
  size = static_cast<size_t>(info.st_size);
  return fd;
}

std::string hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// A directory entry is on the disk only when its directory is.
void sync_directory(const Path& path) {
  const Descriptor directory(::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY));
  if (directory.fd >= 0) ::fsync(directory.fd);
}

// A name beside `target` that no other writer has, in whichever process or container.
Path temporary_beside(const Path& target) {
  std::random_device random;
  return target.parent_path() /
         fmt::format(".{}.{:08x}{:08x}.partial", target.filename().string(), random(), random());
}

// Removes what killed writers of `target` left: temporaries whose lock nobody holds. A writer that
// was about to lock its own sees that it went.
void remove_abandoned(const Path& target) {
  const std::string prefix = "." + target.filename().string() + ".";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(target.parent_path(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(".partial")) continue;
    const Descriptor left(
        ::open(entry.path().c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
    if (left.fd < 0 || ::flock(left.fd, LOCK_EX | LOCK_NB) != 0) continue;
    std::filesystem::remove_all(entry.path(), ignored);
  }
}

// A file that is some process's open one: /dev/stdout, /dev/fd/1 and what they stand for.
bool is_open_file(const Path& path) {
  std::error_code ignored;
  const Path folder = std::filesystem::weakly_canonical(path.parent_path(), ignored);
  return folder.string().starts_with("/proc/");
}

// Where the links at `path` lead, whether or not something is there.
Path behind_links(Path path) {
  constexpr int kMostLinks = 40;
  std::error_code ignored;
  for (int i = 0; i < kMostLinks; ++i) {
    if (is_open_file(path) || !std::filesystem::is_symlink(path, ignored)) break;
    path = path.parent_path() / std::filesystem::read_symlink(path, ignored);
  }
  return path;
}

// Nothing can be put in its place by a rename.
bool is_written_in_place(const Path& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  const bool special = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  return special || is_open_file(path);
}

// Puts `source` at `target`, where a file or directory is; what was there is then at `source`.
// Where the file system cannot exchange names, there is a moment without `target`.
void exchange(const Path& source, const Path& target, std::error_code& error) {
  if (::renameat2(AT_FDCWD, source.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
  const Path old = source.string() + ".old";
  std::filesystem::rename(target, old, error);
  if (!error) std::filesystem::rename(source, target, error);
  if (!error) std::filesystem::rename(old, source, error);
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const Path& path) {
  auto file = std::shared_ptr<MappedFile>(new MappedFile());
  file->path_ = path;
  const Descriptor source(open_regular(path, file->size_));
  if (file->size_ == 0) return file;
  void* address = ::mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, source.fd, 0);
  if (address == MAP_FAILED) fail("{}: cannot be mapped: {}", path.string(), reason());
  file->data_ = static_cast<const std::byte*>(address);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(size_t offset, size_t size) const {
  const size_t page = 4096;
  const size_t first = (offset + page - 1) / page * page;
  const size_t last = (offset + size) / page * page;
  if (data_ != nullptr && first < last) {
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
}

std::string read_file(const Path& path, size_t limit) {
  size_t size = 0;
  const Descriptor source(open_regular(path, size));
  check(size <= limit, "{}: has {} bytes, at most {} are read", path.string(), size, limit);
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(source.fd, text.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    check(got > 0, "{}: cannot be read: {}", path.string(), got < 0 ? reason() : "it shrank");
    done += static_cast<size_t>(got);
  }
  return text;
}

void write_file(const Path& path, std::string_view bytes) {
  WholeFileWriter writer(path);
  writer.write(bytes);
  writer.commit();
}

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
  void begin() {
    NG_CHECK(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1, "EVP");
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->begin(); }
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  NG_CHECK(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1, "EVP");
}

std::string Sha256::finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  NG_CHECK(EVP_DigestFinal_ex(state_->context.get(), digest, &size) == 1, "EVP");
  state_->begin();
  return hex({digest, size});
}

struct FileWriter::State {
  Path path;
  int fd = -1;
  std::vector<std::byte> buffer;
  off_t put_bytes = 0, begun = 0;  // all; those on their way to the disk

  // A large file goes there as it grows, and leaves the page cache to what it is made from.
  void put(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t done = ::write(fd, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      check(done >= 0, "{}: cannot be written: {}", path.string(), reason());
      bytes = bytes.subspan(static_cast<size_t>(done));
      put_bytes += done;
    }
    if (put_bytes - begun < 64 << 20) return;
    ::posix_fadvise(fd, 0, begun, POSIX_FADV_DONTNEED);
    ::sync_file_range(fd, begun, put_bytes - begun, SYNC_FILE_RANGE_WRITE);
    begun = put_bytes;
  }

  void flush() {
    put(buffer);
    buffer.clear();
  }
};

FileWriter::FileWriter(const Path& path, bool append) : state_(std::make_unique<State>()) {
  state_->path = path;
  const int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_CREAT | O_TRUNC);
  state_->fd = ::open(path.c_str(), flags, 0666);
  check(state_->fd >= 0, "{}: cannot be {}: {}", path.string(), append ? "opened" : "created",
        reason());
}

FileWriter::~FileWriter() {
  if (state_->fd >= 0) ::close(state_->fd);
}

void FileWriter::write(std::span<const std::byte> bytes) {
  constexpr size_t kBuffer = size_t{1} << 20;
  size_ += bytes.size();
  if (state_->buffer.size() + bytes.size() > kBuffer) state_->flush();
  if (bytes.size() >= kBuffer) return state_->put(bytes);
  state_->buffer.insert(state_->buffer.end(), bytes.begin(), bytes.end());
}

void FileWriter::pad_to(size_t alignment) {
  const std::vector<std::byte> zeros((alignment - size_ % alignment) % alignment);
  write(std::span<const std::byte>(zeros));
}

void FileWriter::flush() { state_->flush(); }

void FileWriter::close() {
  state_->flush();
  const bool synced = ::fsync(state_->fd) == 0 || errno == EINVAL;  // /dev/null has no disk
  const bool closed = ::close(state_->fd) == 0;
  state_->fd = -1;
  check(synced && closed, "{}: cannot be written: {}", state_->path.string(), reason());
}

struct WholeFileWriter::State {
  Path target, temporary;  // without a temporary the target is written in place
  int lock = -1;           // held on the temporary: its writer is alive
  std::optional<FileWriter> file;

  // Creates the temporary and locks it; false: somebody took it for abandoned in between.
  bool create() {
    temporary = temporary_beside(target);
    file.emplace(temporary);
    lock = ::open(temporary.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info = {};
    if (lock < 0) return errno != ENOENT;
    ::flock(lock, LOCK_EX);  // where there are no locks nobody removes either
    if (::fstat(lock, &info) == 0 && info.st_nlink > 0) return true;
    ::close(lock);
    lock = -1;
    return false;
  }
};

WholeFileWriter::WholeFileWriter(const Path& target) : state_(std::make_unique<State>()) {
  state_->target = behind_links(target);
  if (is_written_in_place(state_->target)) {
    state_->file.emplace(state_->target, true);
    return;
  }
  remove_abandoned(state_->target);
  try {
    while (!state_->create()) continue;
  } catch (const Error& error) {
    fail("{}: cannot be written: {}", target.string(), error.what());
  }
}

WholeFileWriter::~WholeFileWriter() {
  std::error_code ignored;
  if (!state_->temporary.empty()) std::filesystem::remove(state_->temporary, ignored);
  if (state_->lock >= 0) ::close(state_->lock);
}

void WholeFileWriter::write(std::string_view text) { state_->file->write(text); }

void WholeFileWriter::flush() {
  if (state_->temporary.empty()) state_->file->flush();
}

void WholeFileWriter::commit() {
  state_->file->close();
  if (state_->temporary.empty()) return;
  std::error_code error;
  std::filesystem::rename(state_->temporary, state_->target, error);
  check(!error, "{}: cannot be put in place: {}", state_->target.string(), error.message());
  state_->temporary.clear();
  sync_directory(state_->target.parent_path());
}

DirectoryWriter::DirectoryWriter(const Path& target, bool replace)
    : target_(std::filesystem::absolute(target).lexically_normal()), replace_(replace) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "name/" means "name"
  check(replace || !std::filesystem::exists(target_),
        "{}: exists; --force replaces it, or choose another name", target_.string());
  std::error_code error;
  std::filesystem::create_directories(target_.parent_path(), error);
  if (!error) remove_abandoned(target_);
  do {  // again where somebody took it for abandoned
    if (lock_ >= 0) ::close(lock_);
    temporary_ = temporary_beside(target_);
    if (!error) std::filesystem::create_directory(temporary_, error);
    check(!error, "{}: cannot be created: {}", temporary_.string(), error.message());
    lock_ = ::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool locked = lock_ >= 0 && ::flock(lock_, LOCK_EX) == 0;
    check(locked || errno == ENOENT, "{}: cannot be locked: {}", temporary_.string(), reason());
  } while (!std::filesystem::exists(temporary_));
}

DirectoryWriter::~DirectoryWriter() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
  ::close(lock_);
}

void DirectoryWriter::commit() {
  sync_directory(temporary_);
  std::error_code error;
  if (replace_ && std::filesystem::exists(target_)) {
    exchange(temporary_, target_, error);
  } else {
    std::filesystem::rename(temporary_, target_, error);
  }
  check(replace_ || (error != std::errc::file_exists && error != std::errc::directory_not_empty),
        "{}: exists; --force replaces it, or choose another name", target_.string());
  check(!error, "{}: cannot be put in place: {}", target_.string(), error.message());
  sync_directory(target_.parent_path());
  std::filesystem::remove_all(temporary_, error);  // what was replaced
  temporary_.clear();
}

std::string sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

uint64_t free_disk_bytes(const Path& path) {
  struct statvfs info = {};
  if (::statvfs(path.c_str(), &info) != 0) fail("{}: {}", path.string(), reason());
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace ng
