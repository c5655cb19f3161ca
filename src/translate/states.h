// The memory behind caches: rows that are taken and given back, buffers that grow without copies.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace ng {

// Hands out runs of row numbers, the lowest that fit.
class RowRuns {
 public:
  int32_t take(int32_t length);  // the first of `length` rows in a run
  void give(int32_t first, int32_t length);
  int64_t size() const { return end_; }  // rows ever handed out: what buffers must hold

 private:
  std::map<int32_t, int32_t> free_;  // first → length, never adjacent
  int32_t end_ = 0;
};

// One buffer of rows a state. New rows are zero; growing keeps what is there.
class States {
 public:
  States() = default;
  ~States();
  States(const States&) = delete;
  States& operator=(const States&) = delete;

  // Declares the state `name` of that type (its first dimension counted); again: checks it.
  void declare(const std::string& name, const Type& type);
  // At least `rows` rows in every state counted by `count`, or User: memory.
  void grow(Count count, int64_t rows);
  // The state as it stands, every row it has.
  Argument argument(const std::string& name) const;
  bool has(const std::string& name) const { return states_.count(name) != 0; }
  uint64_t row_bytes(Count count) const;  // of all states of that count together

 private:
  struct State {
    Type type;
    std::byte* data = nullptr;
    int64_t rows = 0;
  };
  std::map<std::string, State> states_;
};

}  // namespace ng
