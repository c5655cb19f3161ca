#include "tools/lines.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace ng {
namespace {

constexpr int kPauseMilliseconds = 50;
constexpr size_t kWindowBytes = size_t{4} << 20;
constexpr size_t kReadBytes = size_t{64} << 10;

}  // namespace

LineReader::LineReader(std::vector<std::string> files, size_t longest_line)
    : files_(std::move(files)), longest_(longest_line) {
  if (files_.empty()) files_.emplace_back("-");
  for (const std::string& file : files_) {  // all of them before anything is answered
    if (file == "-" || ::access(file.c_str(), R_OK) == 0) continue;
    fail("{}: cannot be opened: {}", file, std::strerror(errno));
  }
}

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
}

bool LineReader::next_file() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
  fd_ = -1;
  if (at_ == files_.size()) return false;
  const std::string& file = files_[at_++];
  // O_NONBLOCK: a FIFO without a writer is a pause of the input like any other.
  fd_ = file == "-" ? STDIN_FILENO : ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ >= 0) return true;
  error_ = fmt::format("{}: cannot be opened: {}", file, std::strerror(errno));
  return false;
}

bool LineReader::fill(bool wait) {
  if (fd_ < 0 && !next_file()) {
    ended_ = true;
    return true;
  }
  pollfd ready = {fd_, POLLIN, 0};
  const int readable = ::poll(&ready, 1, wait ? -1 : kPauseMilliseconds);
  if (readable <= 0) return readable < 0;
  const size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const ssize_t got = ::read(fd_, buffer_.data() + before, kReadBytes);
  buffer_.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0 && errno != EINTR && errno != EAGAIN) {
    const bool standard = fd_ == STDIN_FILENO;
    error_ = fmt::format("{} cannot be read: {}",
                         standard ? "standard input" : files_[at_ - 1] + ":", std::strerror(errno));
    ended_ = true;
  }
  if (got == 0) {  // a last line without LF ends with its file
    if (fd_ > STDIN_FILENO) ::close(fd_);
    fd_ = -1;
    const bool open_line = !buffer_.empty() && buffer_.back() != '\n';
    if (open_line || (skipping_ && buffer_.empty())) buffer_ += '\n';
  }
  return true;
}

void LineReader::add(std::vector<Line>& lines, std::string_view text) {
  const bool too_long = text.size() > longest_;
  lines.push_back({too_long ? "" : std::string(text), ++number_, too_long});
}

void LineReader::take_lines(std::vector<Line>& lines, size_t most, size_t& bytes) {
  size_t begin = 0;
  while (lines.size() < most && bytes < kWindowBytes) {
    const size_t end = buffer_.find('\n', begin);
    if (end == std::string::npos) {
      if (!skipping_ && buffer_.size() - begin > longest_) {
        add(lines, std::string_view(buffer_).substr(begin));
        skipping_ = true;
      }
      if (skipping_) begin = buffer_.size();
      break;
    }
    if (!skipping_) {
      add(lines, std::string_view(buffer_).substr(begin, end - begin));
      bytes += end - begin;
    }
    skipping_ = false;
    begin = end + 1;
  }
  buffer_.erase(0, begin);
}

std::vector<Line> LineReader::window(size_t most) {
  std::vector<Line> lines;
  size_t bytes = 0;
  take_lines(lines, most, bytes);
  while (!ended_ && lines.size() < most && bytes < kWindowBytes) {
    if (!fill(lines.empty())) break;
    take_lines(lines, most, bytes);
  }
  if (lines.empty() && !error_.empty()) throw Error(Error::Kind::User, error_);
  return lines;
}

void each_line(const std::string& file, const std::function<void(const Line&)>& take) {
  constexpr size_t kLongest = size_t{16} << 20, kWindow = 4096;
  LineReader reader({file}, kLongest);
  for (auto lines = reader.window(kWindow); !lines.empty(); lines = reader.window(kWindow)) {
    for (const Line& line : lines) {
      try {
        check(!line.too_long, "is longer than {} MiB", kLongest >> 20);
        take(line);
      } catch (const Error& error) {
        if (error.kind() != Error::Kind::User) throw;
        fail("{}: line {}: {}", file, line.number, error.what());
      }
    }
  }
}

LineWriter::LineWriter(const std::string& path) {
  if (!path.empty() && path != "-") file_ = std::make_unique<WholeFileWriter>(path);
}

void LineWriter::write(std::string_view text) {
  if (file_) return file_->write(text);
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
  fail("standard output cannot be written: {}", std::strerror(errno));
}

void LineWriter::flush() {
  if (file_) return file_->flush();
  if (std::fflush(stdout) == 0) return;
  fail("standard output cannot be written: {}", std::strerror(errno));
}

void LineWriter::finish() {
  flush();
  if (file_) file_->commit();
}

}  // namespace ng
