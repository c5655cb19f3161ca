#include "translate/states.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace ng {
namespace {

constexpr int64_t kFirstRows = 64;

size_t bytes_a_row(const Type& type) {
  return static_cast<size_t>(type.size(1)) * byte_size(type.dtype);
}

}  // namespace

int32_t RowRuns::take(int32_t length) {
  for (auto run = free_.begin(); run != free_.end(); ++run) {
    if (run->second < length) continue;
    const auto [first, available] = *run;
    free_.erase(run);
    if (available > length) free_[first + length] = available - length;
    return first;
  }
  if (!free_.empty()) {  // a free run at the end is extended
    const auto last = std::prev(free_.end());
    if (last->first + last->second == end_) {
      const int32_t first = last->first;
      free_.erase(last);
      end_ = first + length;
      return first;
    }
  }
  const int32_t first = end_;
  NG_CHECK(!__builtin_add_overflow(end_, length, &end_), "{} rows", length);
  return first;
}

void RowRuns::give(int32_t first, int32_t length) {
  if (length == 0) return;
  const auto after = free_.lower_bound(first);
  if (after != free_.end() && after->first == first + length) {
    length += after->second;
    free_.erase(after);
  }
  const auto behind = free_.lower_bound(first);
  if (behind != free_.begin()) {
    const auto before = std::prev(behind);
    NG_CHECK(before->first + before->second <= first, "row {} is given twice", first);
    if (before->first + before->second == first) {
      before->second += length;
      return;
    }
  }
  free_[first] = length;
}

States::~States() {
  for (auto& [name, state] : states_) {
    if (state.data != nullptr) {
      ::munmap(state.data, static_cast<size_t>(state.rows) * bytes_a_row(state.type));
    }
  }
}

void States::declare(const std::string& name, const Type& type) {
  const auto [at, fresh] = states_.try_emplace(name, State{type, nullptr, 0});
  check(at->second.type == type, "state {} is {} in one phase and {} in another", name,
        to_string(at->second.type), to_string(type));
  check(type.rank() == 2 && type.shape[0].count != Count::none, "state {} is {}", name,
        to_string(type));
  if (fresh) grow(type.shape[0].count, 1);
}

void States::grow(Count count, int64_t rows) {
  for (auto& [name, state] : states_) {
    if (state.type.shape[0].count != count || state.rows >= rows) continue;
    const int64_t capacity = state.type.size(0);
    check(rows <= capacity, "state {}: {} rows, it has room for {}", name, rows, capacity);
    const int64_t wanted =
        std::min(capacity, std::max({rows, state.rows + state.rows / 2, kFirstRows}));
    const size_t row = bytes_a_row(state.type);
    const size_t bytes = static_cast<size_t>(wanted) * row;
    void* data = state.data == nullptr ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                       : ::mremap(state.data, static_cast<size_t>(state.rows) * row,
                                                  bytes, MREMAP_MAYMOVE);
    check(data != MAP_FAILED, "{} bytes for {} cannot be had: use smaller batches", bytes, name);
    ::madvise(data, bytes, MADV_HUGEPAGE);
    state.data = static_cast<std::byte*>(data);
    state.rows = wanted;
  }
}

Argument States::argument(const std::string& name) const {
  const State& state = states_.at(name);
  Type exact = state.type;
  exact.shape[0] = Dim(state.rows);
  return {exact, state.data};
}

uint64_t States::row_bytes(Count count) const {
  uint64_t bytes = 0;
  for (const auto& [name, state] : states_) {
    if (state.type.shape[0].count == count) bytes += bytes_a_row(state.type);
  }
  return bytes;
}

}  // namespace ng
