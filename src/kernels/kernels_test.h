// What the kernels' tests share: inputs, buffers that fault beyond their end, exact comparison.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace ng {

inline std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> kernels;
  const KernelList all = all_kernels();
  for (size_t i = 0; i < all.size; ++i) {
    if (all.begin[i]->supported()) kernels.push_back(all.begin[i]);
  }
  return kernels;
}

// `size` elements that end where a page without access begins: reading or writing past them faults.
template <class T>
class Fenced {
 public:
  explicit Fenced(size_t size) : size_(size) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t body = (size * sizeof(T) + page - 1) / page * page;
    bytes_ = body + page;
    void* memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<std::byte*>(memory);
    mprotect(begin_ + body, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(begin_ + body - size * sizeof(T));
  }
  explicit Fenced(const std::vector<T>& values) : Fenced(values.size()) {
    if (size_ > 0) std::memcpy(data_, values.data(), size_ * sizeof(T));
  }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  ~Fenced() { munmap(begin_, bytes_); }
  T* data() { return data_; }
  std::vector<T> copy() const { return std::vector<T>(data_, data_ + size_); }

 private:
  std::byte* begin_;
  size_t bytes_, size_;
  T* data_;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) {  // both included
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool coin() { return integer(0, 1) == 1; }
  float number() { return std::ldexp(static_cast<float>(integer(-8388608, 8388607)), -22); }
  std::vector<float> numbers(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = number();
    return values;
  }

 private:
  std::mt19937 engine_;
};

// Equal bytes; a NaN equals any NaN.
inline ::testing::AssertionResult same_bits(std::span<const float> got,
                                            std::span<const float> want) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(want[i])) continue;
    if (std::isnan(got[i]) && std::isnan(want[i])) continue;
    return ::testing::AssertionFailure()
           << "element " << i << " of " << got.size() << ": " << got[i] << ", want " << want[i];
  }
  return ::testing::AssertionSuccess();
}

// lanes(a, b) and, with b null, lanes(a) of kernels.h, written from its words.
inline float lanes_of(const float* a, const float* b, int64_t n) {
  float l[16] = {};
  for (int64_t i = 0; i < n; ++i)
    l[i % 16] = b ? std::fma(a[i], b[i], l[i % 16]) : l[i % 16] + a[i];
  for (int i = 0; i < 8; ++i) l[i] += l[i + 8];
  for (int i = 0; i < 4; ++i) l[i] += l[i + 4];
  for (int i = 0; i < 2; ++i) l[i] += l[i + 2];
  return l[0] + l[1];
}

}  // namespace ng
