// Where does a tensor of a checkpoint lie, and how do its bytes become a Tensor?
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tensor/tensor.h"

namespace ng {

inline constexpr size_t kMaxTensors = 100'000;  // of a checkpoint, all files together
inline constexpr size_t kMaxRank = 8;

// A tensor inside a file. The parsers leave `file` empty; map_tensors sets it.
struct StoredTensor {
  Type type;  // every dimension exact
  std::shared_ptr<const MappedFile> file;
  uint64_t offset = 0;           // of the first element, in bytes from the file's start
  std::vector<int64_t> strides;  // in elements, >= 0; empty: row-major and contiguous
};
using StoredTensors = std::map<std::string, StoredTensor>;

// The tensors of a file by its format's parser, which is given the whole file's bytes and its name.
using ParseTensors = StoredTensors (*)(std::span<const std::byte> bytes, std::string_view what);
StoredTensors map_tensors(const Path& path, ParseTensors parse);

// The bytes of `type`, or a User error that names the tensor: rank, a negative size, overflow.
uint64_t checked_byte_count(const Type& type, std::string_view what, std::string_view name);

// A view of the mapping where the elements are contiguous, else a gathered copy.
Tensor read(const StoredTensor& stored);

// Rows [first, first + count) of the outermost axis, likewise.
Tensor read_rows(const StoredTensor& stored, int64_t first, int64_t count);

// Same shape and bytes, or floats of two kinds with the same values; compared in blocks of rows.
bool same_values(const StoredTensor& a, const StoredTensor& b);

}  // namespace ng
