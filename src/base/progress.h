// How far is a long piece of work? A bar on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace ng {

// Writes to standard error, nothing when quiet; what cannot be written is lost. For one thread.
class Progress {
 public:
  explicit Progress(bool quiet, std::FILE* out = stderr);
  ~Progress() { end(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Begins a part of the work, "weights", of so many bytes or, with a unit, of so many "sentences";
  // the part before it ends.
  void begin(std::string what, uint64_t total, std::string unit = "");
  void advance(uint64_t by);
  void end();
  void say(std::string_view line);  // a line of its own

 private:
  using Clock = std::chrono::steady_clock;
  void show(bool last);

  std::FILE* out_;  // null: quiet
  bool terminal_ = false;
  std::string what_;  // empty: nothing is under way
  std::string unit_;  // empty: bytes
  uint64_t total_ = 0, done_ = 0;
  Clock::time_point start_, shown_;
};

}  // namespace ng
