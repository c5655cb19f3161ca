// What the evaluation of one node sees, and one function an op. Private to the interpreter; the
// meanings are docs/ops.md's.
#pragma once

#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "ir/graph.h"

namespace ng {

struct Evaluation {
  const Node& node;
  std::span<const Tensor> in;
  std::vector<Type> types;  // of the results, exact
  ThreadPool* threads;      // or null
};
using Results = std::vector<Tensor>;

#define OP(name, fewest, most, kind, rule) Results evaluate_##name(const Evaluation& e);
#include "ir/ops.def"
#undef OP

// A tensor's elements, aligned: where they are if possible, else a copy.
template <class T>
class Elements {
 public:
  explicit Elements(const Tensor& tensor) : size_(tensor.data.size() / sizeof(T)) {
    data_ = reinterpret_cast<const T*>(tensor.data.data());
    if (size_ == 0 || reinterpret_cast<uintptr_t>(data_) % alignof(T) == 0) return;
    copy_.resize(size_);
    std::memcpy(copy_.data(), tensor.data.data(), size_ * sizeof(T));
    data_ = copy_.data();
  }
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  const T* data() const { return data_; }
  int64_t size() const { return static_cast<int64_t>(size_); }
  T operator[](int64_t i) const { return data_[i]; }

 private:
  size_t size_;
  std::vector<T> copy_;
  const T* data_;
};

// One new tensor that `body` fills; it begins as zeros.
template <class T, class Body>
Results make(const Type& type, Body body) {
  std::vector<std::byte> bytes(static_cast<size_t>(byte_count(type)));
  body(reinterpret_cast<T*>(bytes.data()));
  return {Tensor::own(type, std::move(bytes))};
}

// body(i) for i in [0, count), in any order; it must not throw.
void parallel(ThreadPool* threads, int64_t count, const std::function<void(int64_t)>& body);

// A matrix of n rows of k, plain [n, k] or packed [⌈n/16⌉, k, 16], f32 or bf16: read in panels of
// 16 rows, as [k, 16] floats.
class Matrix {
 public:
  Matrix(const Tensor& tensor, int64_t rows);
  int64_t rows() const { return rows_; }
  int64_t inner() const { return k_; }
  const float* panel(int64_t p, std::vector<float>& scratch) const;  // rows past n are zeros
  void row(int64_t r, float* out) const;                             // [k]

 private:
  void widen(int64_t first, int64_t count, float* out) const;
  const Tensor& tensor_;
  int64_t rows_, k_;
  bool packed_;
};

// out [rows, b.rows()] = chains over k of a [rows, k] and b's rows.
void multiply(const float* a, int64_t rows, const Matrix& b, float* out, ThreadPool* threads);

}  // namespace ng
