#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace ng {
namespace {

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Progress::Progress(bool quiet, std::FILE* out) : out_(quiet ? nullptr : out) {
  terminal_ = out_ != nullptr && ::isatty(::fileno(out_)) == 1;
}

void Progress::begin(std::string what, uint64_t total, std::string unit) {
  end();
  what_ = std::move(what);
  unit_ = std::move(unit);
  total_ = total;
  done_ = 0;
  start_ = shown_ = Clock::now();
}

void Progress::advance(uint64_t by) {
  done_ += by;
  if (out_ == nullptr) return;
  const double since = seconds(Clock::now() - shown_);
  if (since >= (terminal_ ? 0.1 : 10.0)) show(false);
}

void Progress::end() {
  if (out_ != nullptr && !what_.empty()) show(true);
  what_.clear();
}

void Progress::say(std::string_view line) {
  if (out_ == nullptr) return;
  const char* clear = terminal_ && !what_.empty() ? "\r\033[K" : "";
  std::fputs(fmt::format("{}{}\n", clear, line).c_str(), out_);
  std::fflush(out_);
}

void Progress::show(bool last) {
  shown_ = Clock::now();
  const double elapsed = std::max(seconds(shown_ - start_), 1e-3);
  const double rate = static_cast<double>(done_) / elapsed;
  std::string line = unit_.empty() ? fmt::format("{}: {} of {} MB, {:.0f} MB/s", what_, done_ >> 20,
                                                 total_ >> 20, rate / (1 << 20))
                                   : fmt::format("{}: {} of {} {}", what_, done_, total_, unit_);
  if (last) {
    line += fmt::format(", {:.1f} s", elapsed);
  } else if (done_ > 0) {
    const int64_t left = std::llround(static_cast<double>(std::max(total_, done_) - done_) / rate);
    line += fmt::format(", {}:{:02} left", left / 60, left % 60);
  }
  constexpr size_t kBar = 20;
  const size_t filled = total_ == 0 ? kBar : std::min(kBar * done_ / total_, uint64_t{kBar});
  const std::string bar = fmt::format("\r[{:<20}] ", std::string(filled, '#'));
  line = terminal_ ? bar + line + "\033[K" : line + "\n";
  if (terminal_ && last) line += "\n";
  std::fputs(line.c_str(), out_);
  std::fflush(out_);
}

}  // namespace ng
