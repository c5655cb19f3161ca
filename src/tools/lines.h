// Lines in and lines out: windows of input that end when the input pauses, output that is checked.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace ng {

struct Line {
  std::string text;       // without its LF
  uint64_t number = 0;    // from 1, over all files
  bool too_long = false;  // longer than the reader's limit: text is empty
};

class LineReader {
 public:
  // "-" and an empty list are standard input. Memory is bounded by one window.
  LineReader(std::vector<std::string> files, size_t longest_line);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // The next lines: all that come until `most` are there, their bytes are many, or the input pauses
  // for 50 ms after at least one. Empty: the end. A file that cannot be read any further is an
  // error (User) once the complete lines before were given.
  std::vector<Line> window(size_t most);
  uint64_t lines() const { return number_; }  // so far

 private:
  bool fill(bool wait);  // more bytes into buffer_; false: pause
  bool next_file();      // false: there is none, or it cannot be opened
  void take_lines(std::vector<Line>& lines, size_t most, size_t& bytes);
  void add(std::vector<Line>& lines, std::string_view text);

  std::vector<std::string> files_;
  size_t longest_, at_ = 0;
  int fd_ = -1;
  bool ended_ = false;
  std::string error_;  // that ended it
  std::string buffer_;
  bool skipping_ = false;  // the rest of a line that was too long
  uint64_t number_ = 0;
};

// Calls `take` with every line of a file; one above 16 MiB: User. User errors of `take` get the
// file's name and the line's number.
void each_line(const std::string& file, const std::function<void(const Line&)>& take);

// Standard output or a file that appears complete.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path);  // "" and "-": standard output

  void write(std::string_view text);
  void flush();   // to whoever reads already
  void finish();  // throws User when something could not be written

 private:
  std::unique_ptr<WholeFileWriter> file_;
};

}  // namespace ng
