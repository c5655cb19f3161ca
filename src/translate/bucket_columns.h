// What host memory does one run of a static module read and fill?
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "tensor/ranks.h"

namespace ng {

inline Type s32(Shape shape) { return {DType::s32, std::move(shape)}; }

inline std::span<const int32_t> integers(const Argument& argument) {
  return {reinterpret_cast<const int32_t*>(argument.data),
          static_cast<size_t>(element_count(argument.type.shape))};
}

// The s32 inputs of a module, filled place by place.
class Columns {
 public:
  void add(const std::string& name, int32_t value) { values_[name].push_back(value); }
  // What `port` reads, exactly as much as it takes.
  Argument argument(const Port& port);
  bool holds(const std::string& name) const { return values_.contains(name); }

 private:
  std::map<std::string, std::vector<int32_t>> values_;
};

// Which rows go where: `count` from row `from` of a module's output to row `to` of a request's.
struct Rows {
  size_t from = 0, to = 0, count = 1;
};

// A module's outputs by name, row-major; of several ranks all they give.
class HostResults {
 public:
  explicit HostResults(const VocabularyParts& parts) : parts_(parts) {}
  Argument argument(const Port& port);
  bool holds(const std::string& name) const { return results_.contains(name); }

  // Of what all ranks have. User: they are not there, or not like those of `to`.
  void copy_rows(const std::string& name, const Rows& rows, const Argument& to) const;
  // The first k of "scores" and "ids", where k is what `scores` takes, greater scores first and
  // among equals the lower id first. An id that is no rank's is the device's mistake: Device.
  void candidates_of_row(const Rows& row, const Argument& scores, const Argument& ids) const;
  // The same from whole rows of output "logits".
  void best_of_logits(const Rows& row, const Argument& scores, const Argument& ids) const;
  // "logits" and "log_sum_exp" of the whole vocabulary.
  void logits_of_row(const Rows& row, const Argument& logits) const;
  void sum_of_row(const Rows& row, const Argument& log_sum_exp) const;

 private:
  struct Result {
    Type type;
    std::vector<std::byte> bytes;
  };
  // Rows, from `which.from` on, of what rank `rank` gave. User: there are not as many.
  std::span<const std::byte> rows(const std::string& name, int64_t rank, const Rows& which) const;
  // Row `at`, and how many numbers are in it.
  template <class T>
  std::span<const T> row_of(const std::string& name, int64_t rank, size_t at) const;
  std::vector<float> whole_row(size_t at) const;  // of logits

  VocabularyParts parts_;
  std::map<std::string, Result> results_;
};

}  // namespace ng
