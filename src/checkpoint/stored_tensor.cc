#include "checkpoint/stored_tensor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace ng {
namespace {

// Copies the elements of `axis` and all inner axes, in row-major order, to `to`.
void gather(const StoredTensor& stored, size_t axis, const std::byte* from, std::byte*& to) {
  const size_t item = byte_size(stored.type.dtype);
  if (axis == stored.type.shape.size()) {
    std::memcpy(to, from, item);
    to += item;
    return;
  }
  const size_t step = static_cast<size_t>(stored.strides[axis]) * item;
  for (int64_t i = 0; i < stored.type.shape[axis].size; ++i) {
    gather(stored, axis + 1, from + static_cast<size_t>(i) * step, to);
  }
}

// An element of a float tensor; every one of them is a double too.
double value_at(const Tensor& tensor, size_t i) {
  const std::byte* at = tensor.data.data() + i * byte_size(tensor.type.dtype);
  const auto as = [at](auto value) {
    std::memcpy(&value, at, sizeof(value));
    return value;
  };
  switch (tensor.type.dtype) {
    case DType::f16: return f16_to_f32(as(uint16_t{}));
    case DType::bf16: return bf16_to_f32(as(uint16_t{}));
    case DType::f32: return as(float{});
    default: return as(double{});
  }
}

bool same_elements(const Tensor& a, const Tensor& b) {
  if (a.type.dtype == b.type.dtype) {
    return std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0;
  }
  const auto count = static_cast<size_t>(element_count(a.type.shape));
  for (size_t i = 0; i < count; ++i) {
    if (std::bit_cast<uint64_t>(value_at(a, i)) != std::bit_cast<uint64_t>(value_at(b, i))) {
      return false;
    }
  }
  return true;
}

}  // namespace

StoredTensors map_tensors(const Path& path, ParseTensors parse) {
  const auto file = MappedFile::open(path);
  StoredTensors tensors = parse(file->bytes(), path.string());
  for (auto& [name, stored] : tensors) stored.file = file;
  return tensors;
}

uint64_t checked_byte_count(const Type& type, std::string_view what, std::string_view name) {
  check(type.shape.size() <= kMaxRank, "{}: '{}' has {} dimensions, at most {} are read", what,
        shown(name), type.shape.size(), kMaxRank);
  int64_t bytes = static_cast<int64_t>(byte_size(type.dtype));
  bool empty = false;
  for (const Dim& dim :
       type.shape) {  // an empty tensor's other dimensions must not overflow either
    check(dim.size >= 0 && !__builtin_mul_overflow(bytes, std::max<int64_t>(dim.size, 1), &bytes),
          "{}: '{}' has the impossible size {}", what, shown(name), to_string(type));
    empty = empty || dim.size == 0;
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

Tensor read(const StoredTensor& stored) {
  NG_CHECK(stored.file != nullptr, "a tensor without its file");
  const auto bytes = static_cast<size_t>(byte_count(stored.type));
  if (bytes == 0) return Tensor::own(stored.type, {});
  const auto from = stored.file->bytes().subspan(stored.offset);
  if (stored.strides.empty()) return Tensor{stored.type, stored.file, from.first(bytes)};
  std::vector<std::byte> gathered(bytes);
  std::byte* to = gathered.data();
  gather(stored, 0, from.data(), to);
  return Tensor::own(stored.type, std::move(gathered));
}

Tensor read_rows(const StoredTensor& stored, int64_t first, int64_t count) {
  NG_CHECK(
      stored.type.rank() > 0 && first >= 0 && count >= 0 && first <= stored.type.size(0) - count,
      "rows {} + {} of {}", first, count, to_string(stored.type));
  StoredTensor rows = stored;
  rows.type.shape[0] = count;
  const int64_t row = stored.strides.empty()
                          ? element_count({stored.type.shape.begin() + 1, stored.type.shape.end()})
                          : stored.strides[0];
  rows.offset += static_cast<uint64_t>(first * row) * byte_size(stored.type.dtype);
  return read(rows);
}

bool same_values(const StoredTensor& a, const StoredTensor& b) {
  const bool floats = is_float(a.type.dtype) && is_float(b.type.dtype);
  if (a.type != b.type && (a.type.shape != b.type.shape || !floats)) return false;
  if (a.type == b.type && a.file == b.file && a.offset == b.offset && a.strides == b.strides)
    return true;
  const int64_t bytes = byte_count(a.type);
  if (bytes == 0) return true;
  if (a.type.rank() == 0) return same_elements(read(a), read(b));
  const int64_t rows = a.type.size(0);
  const int64_t block = std::max<int64_t>(1, (int64_t{16} << 20) / (bytes / rows));
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = std::min(block, rows - first);
    const Tensor x = read_rows(a, first, count), y = read_rows(b, first, count);
    if (!same_elements(x, y)) return false;
    for (const auto& [stored, part] : {std::pair(&a, &x), std::pair(&b, &y)}) {
      const auto start = part->data.data() - stored->file->bytes().data();
      if (stored->strides.empty())
        stored->file->release(static_cast<size_t>(start), part->data.size());
    }
  }
  return true;
}

}  // namespace ng
