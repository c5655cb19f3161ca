#include "tools/records.h"

#include <cstdio>

#include "base/error.h"

namespace ng {
namespace {

// What cannot be written is lost: results and the exit code are as they would be.
void say(const std::string& line) { std::fputs(line.c_str(), stderr); }

}  // namespace

void warn(const Options& options, uint64_t line, std::string_view message) {
  if (!options.quiet) say(fmt::format("warning: line {}: {}\n", line, message));
}

void FailedRecords::add(uint64_t number, std::string_view error) {
  constexpr size_t kListed = 100;
  ++count_;
  if (first_.size() < kListed) first_.push_back(number);
  say(fmt::format("error: line {}: {}\n", number, error));
}

int FailedRecords::finish(uint64_t total) const {
  if (count_ == 0) return 0;
  say(fmt::format("{} of {} {} failed: {}{}\n", count_, total, noun_, fmt::join(first_, ", "),
                  count_ > first_.size() ? ", …" : ""));
  return 1;
}

}  // namespace ng
