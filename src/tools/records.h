// Records that fail while the others go on: what stderr and the exit code say of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/options.h"

namespace ng {

inline constexpr size_t kWindowLines = 1024;  // read ahead, sorted by length and answered together

// "warning: line 17: …" on stderr, unless --quiet.
void warn(const Options& options, uint64_t line, std::string_view message);

class FailedRecords {
 public:
  explicit FailedRecords(std::string noun) : noun_(std::move(noun)) {}
  void add(uint64_t number, std::string_view error);  // says it on stderr
  // "2 of 500 lines failed: 17, 301" on stderr and 1, or nothing and 0.
  int finish(uint64_t total) const;

 private:
  std::string noun_;
  uint64_t count_ = 0;
  std::vector<uint64_t> first_;  // numbers of the first 100
};

}  // namespace ng
