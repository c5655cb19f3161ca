// How bytes come from and go to the disk: mapped reads, bounded reads, writes that appear complete
// or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ng {

using Path = std::filesystem::path;

// A file's bytes, read-only, kept mapped for as long as anybody holds the pointer.
// A file that shrinks while it is mapped ends the process (SIGBUS), as for every program that maps.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const Path& path);  // throws User
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const Path& path() const { return path_; }
  // The bytes were used and are not needed soon: their pages may go (they can be read again).
  void release(size_t offset, size_t size) const;

 private:
  MappedFile() = default;
  Path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole file as text. Larger than `limit` bytes, missing or unreadable: User.
std::string read_file(const Path& path, size_t limit);

// As WholeFileWriter does, at once.
void write_file(const Path& path, std::string_view bytes);

// A running SHA-256 (OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  std::string finish();  // lower-case hex; then it begins anew

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Sequential writer with a running SHA-256. Errors (disk full) are User and name the path.
class FileWriter {
 public:
  // Creates or truncates; with `append` something is there, perhaps a FIFO or a device.
  explicit FileWriter(const Path& path, bool append = false);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void pad_to(size_t alignment);  // zero bytes up to the next multiple
  uint64_t size() const { return size_; }
  void flush();  // to the file, not to the disk
  void close();  // flushes, syncs

 private:
  struct State;
  std::unique_ptr<State> state_;
  uint64_t size_ = 0;
};

// A file that appears complete, by rename, or not at all: readers see the old one or the new one. A
// link stays and what it leads to is replaced. What is no regular file (a FIFO, a device) is
// written in place. Each writer has a temporary of its own beside the file; what a killed one left
// the next writer of the file removes.
class WholeFileWriter {
 public:
  explicit WholeFileWriter(const Path& target);
  ~WholeFileWriter();  // without commit() the file stays as it was
  WholeFileWriter(const WholeFileWriter&) = delete;
  WholeFileWriter& operator=(const WholeFileWriter&) = delete;

  void write(std::string_view text);
  void flush();  // what is written in place; a temporary has no reader
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A directory that appears complete, by rename, or not at all. Filled under a temporary name beside
// `target`, which the destructor removes unless commit() was reached; what a killed process left of
// `target` the next writer removes.
class DirectoryWriter {
 public:
  // An existing `target` is refused without `replace` (User).
  DirectoryWriter(const Path& target, bool replace);
  ~DirectoryWriter();
  DirectoryWriter(const DirectoryWriter&) = delete;
  DirectoryWriter& operator=(const DirectoryWriter&) = delete;

  const Path& path() const { return temporary_; }  // write here
  void commit();

 private:
  Path target_, temporary_;
  bool replace_;
  int lock_ = -1;  // held on the temporary directory: its writer is alive
};

std::string sha256(std::span<const std::byte> bytes);  // lower-case hex
inline std::string sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

uint64_t free_disk_bytes(const Path& path);  // of the file system that holds `path`

}  // namespace ng
