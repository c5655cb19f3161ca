// Shapes, types and host tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace ng {

// What a dimension's size is counted by when its capacity is only a bound. Counts take their value
// at run time from the buffers that are bound to a graph's inputs and outputs (docs/ops.md).
enum class Count : uint8_t {
  none,        // the size is exact
  tokens,      // packed source tokens of one encode
  rows,        // sentence × beam (or × target position) of one decode step
  context,     // longest history of a step, in target positions
  cache,       // rows of the self-attention cache
  memory,      // rows of the cross-attention cache (encoded source tokens)
  candidates,  // k of the best candidates a row
};
inline constexpr Count kCounts[] = {Count::none,  Count::tokens, Count::rows,      Count::context,
                                    Count::cache, Count::memory, Count::candidates};
std::string_view name(Count count);  // "" for none

struct Dim {
  int64_t size = 0;  // the capacity, when counted
  Count count = Count::none;
  Dim() = default;
  Dim(int64_t s, Count c = Count::none) : size(s), count(c) {}  // NOLINT: a number is a dimension
  bool operator==(const Dim&) const = default;
};
using Shape = std::vector<Dim>;

struct Type {
  DType dtype = DType::f32;
  Shape shape;
  bool operator==(const Type&) const = default;
  int rank() const { return static_cast<int>(shape.size()); }
  int64_t size(int axis) const;  // axis < 0 counts from the end
  bool counted() const;          // any dimension is
};

// The values of the counts in one run; -1 where nothing has bound it yet.
struct Counts {
  std::array<int64_t, std::size(kCounts)> at;
  Counts() { at.fill(-1); }
  bool operator==(const Counts&) const = default;
  int64_t operator[](Count count) const { return at[static_cast<size_t>(count)]; }

  // Takes the counts from a buffer of `actual` (exact) type bound to a `declared` one. A shape that
  // does not fit, is above its capacity or contradicts an earlier binding: User, naming `what`.
  void bind(const Type& declared, const Type& actual, std::string_view what);
  Type resolve(const Type& declared) const;  // every counted dimension with its value, uncounted
};

int64_t element_count(const Shape& shape);  // of the capacities; overflow: Internal
int64_t byte_count(const Type& type);       // likewise
std::string to_string(const Shape& shape);  // [tokens<=4096,256]
std::string to_string(const Type& type);    // f32[tokens<=4096,256]

// dtype + shape + host bytes, owned or mapped; sizes are exact (no counts), row-major, little
// endian. The bytes need not be aligned when they are mapped from a file.
struct Tensor {
  Type type;
  std::shared_ptr<const void> owner;  // keeps `data` alive
  std::span<const std::byte> data;

  static Tensor own(Type type, std::vector<std::byte> bytes);
  template <class T>
  static Tensor of(DType dtype, Shape shape, std::span<const T> values);
};

template <class T>
Tensor Tensor::of(DType dtype, Shape shape, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return own(Type{dtype, std::move(shape)}, std::vector<std::byte>(bytes.begin(), bytes.end()));
}

}  // namespace ng
