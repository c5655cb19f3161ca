#include "tensor/tensor.h"

#include <limits>

#include "base/error.h"

namespace ng {

std::string_view name(Count count) {
  switch (count) {
    case Count::none: return "";
    case Count::tokens: return "tokens";
    case Count::rows: return "rows";
    case Count::context: return "context";
    case Count::cache: return "cache";
    case Count::memory: return "memory";
    case Count::candidates: return "candidates";
  }
  return "";
}

int64_t Type::size(int axis) const {
  const int at = axis < 0 ? axis + rank() : axis;
  NG_CHECK(at >= 0 && at < rank(), "axis {} of {}", axis, to_string(*this));
  return shape[static_cast<size_t>(at)].size;
}

bool Type::counted() const {
  for (const Dim& dim : shape) {
    if (dim.count != Count::none) return true;
  }
  return false;
}

void Counts::bind(const Type& declared, const Type& actual, std::string_view what) {
  const bool fits = declared.dtype == actual.dtype && declared.rank() == actual.rank();
  check(fits, "{}: {} given for {}", what, to_string(actual), to_string(declared));
  for (size_t i = 0; i < declared.shape.size(); ++i) {
    const Dim& dim = declared.shape[i];
    const int64_t size = actual.shape[i].size;
    check(size <= dim.size && (dim.count != Count::none || size == dim.size), "{}: {} given for {}",
          what, to_string(actual), to_string(declared));
    if (dim.count == Count::none) continue;
    int64_t& bound = at[static_cast<size_t>(dim.count)];
    check(bound < 0 || bound == size, "{}: {} is {} here and {} elsewhere", what, name(dim.count),
          size, bound);
    bound = size;
  }
}

Type Counts::resolve(const Type& declared) const {
  Type type = declared;
  for (Dim& dim : type.shape) {
    if (dim.count == Count::none) continue;
    NG_CHECK((*this)[dim.count] >= 0, "{} of {} is bound by no input or output", name(dim.count),
             to_string(declared));
    dim = Dim((*this)[dim.count]);
  }
  return type;
}

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (const Dim& dim : shape) {
    NG_CHECK(dim.size >= 0 && !__builtin_mul_overflow(count, dim.size, &count), "{} overflows",
             to_string(shape));
  }
  return count;
}

int64_t byte_count(const Type& type) {
  int64_t bytes = 0;
  const auto item = static_cast<int64_t>(byte_size(type.dtype));
  NG_CHECK(!__builtin_mul_overflow(element_count(type.shape), item, &bytes), "{} overflows",
           to_string(type));
  return bytes;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const Dim& dim : shape) {
    if (text.size() > 1) text += ',';
    if (dim.count != Count::none) text += fmt::format("{}<=", name(dim.count));
    text += std::to_string(dim.size);
  }
  return text + "]";
}

std::string to_string(const Type& type) {
  return std::string(name(type.dtype)) + to_string(type.shape);
}

Tensor Tensor::own(Type type, std::vector<std::byte> bytes) {
  NG_CHECK(byte_count(type) == static_cast<int64_t>(bytes.size()), "{} given {} bytes",
           to_string(type), bytes.size());
  const auto kept = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return Tensor{std::move(type), kept, {kept->data(), kept->size()}};
}

}  // namespace ng
