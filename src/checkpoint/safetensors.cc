#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/json.h"

namespace ng {
namespace {

// The format allows 100 MB; 100,000 tensors with their names need a quarter of this.
constexpr uint64_t kMaxHeader = uint64_t{64} << 20;
constexpr size_t kLength = 8;

struct Row {
  std::string_view name;
  DType dtype;
};
constexpr Row kTypes[] = {
    {"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16},
    {"F64", DType::f64}, {"I8", DType::s8},   {"U8", DType::u8},
    {"I32", DType::s32}, {"I64", DType::s64}, {"BOOL", DType::u8},  // last: written as U8
};

DType read_dtype(const Json& entry, std::string_view what, std::string_view name) {
  const std::string text = json_string(entry, "dtype", "", what);
  for (const Row& row : kTypes) {
    if (row.name == text) return row.dtype;
  }
  fail("{}: '{}' has dtype '{}'; F32, F16, BF16, F64, I8, U8, I32, I64 and BOOL are read", what,
       shown(name), shown(text));
}

// entry[key], an array of integers in [0, 2^63).
std::vector<int64_t> read_sizes(const Json& entry, const char* key, std::string_view what,
                                std::string_view name) {
  const auto found = entry.find(key);
  check(found != entry.end() && found->is_array(), "{}: '{}' has no list \"{}\"", what, shown(name),
        key);
  std::vector<int64_t> sizes;
  for (const Json& item : *found) {
    check(item.is_number_unsigned() && item.get<uint64_t>() <= uint64_t{INT64_MAX},
          "{}: '{}': \"{}\" must hold integers from 0 to 2^63-1", what, shown(name), key);
    sizes.push_back(item.get<int64_t>());
  }
  return sizes;
}

StoredTensor read_entry(const Json& entry, std::string_view what, std::string_view name) {
  check(entry.is_object() && entry.size() == 3,
        "{}: '{}' must be an object of dtype, shape and data_offsets", what, shown(name));
  StoredTensor stored;
  stored.type.dtype = read_dtype(entry, what, name);
  for (int64_t size : read_sizes(entry, "shape", what, name)) stored.type.shape.emplace_back(size);
  const auto offsets = read_sizes(entry, "data_offsets", what, name);
  check(offsets.size() == 2 && offsets[0] <= offsets[1],
        "{}: '{}': data_offsets must be a begin and an end", what, shown(name));
  const uint64_t bytes = checked_byte_count(stored.type, what, name);
  check(bytes == static_cast<uint64_t>(offsets[1] - offsets[0]),
        "{}: '{}' is {} = {} bytes, its data_offsets span {}", what, shown(name),
        to_string(stored.type), bytes, offsets[1] - offsets[0]);
  stored.offset = static_cast<uint64_t>(offsets[0]);
  return stored;
}

void check_metadata(const Json& metadata, std::string_view what) {
  check(metadata.is_object(), "{}: __metadata__ must be an object of strings", what);
  for (const auto& [key, value] : metadata.items()) {
    check(value.is_string(), "{}: __metadata__: '{}' must be a string", what, shown(key));
  }
}

// The tensors must fill the data exactly: no hole, no overlap, nothing after the last.
void check_layout(const StoredTensors& tensors, uint64_t data_bytes, std::string_view what) {
  struct Extent {
    uint64_t begin, end;
    std::string_view name;
  };
  std::vector<Extent> extents;
  for (const auto& [name, stored] : tensors) {
    const auto bytes = static_cast<uint64_t>(byte_count(stored.type));
    extents.push_back({stored.offset, stored.offset + bytes, name});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t end = 0;
  for (const Extent& extent : extents) {
    check(extent.begin == end, "{}: '{}' begins at byte {} of the data, the one before ends at {}",
          what, shown(extent.name), extent.begin, end);
    end = extent.end;
  }
  check(end == data_bytes,
        "{}: the tensors need {} bytes of data, {} are there: the file is cut or damaged", what,
        end, data_bytes);
}

std::string_view dtype_name(DType dtype) {
  for (const Row& row : kTypes) {
    if (row.dtype == dtype) return row.name;
  }
  NG_CHECK(false, "a dtype without a safetensors name");
}

}  // namespace

StoredTensors parse_safetensors(std::span<const std::byte> bytes, std::string_view what) {
  check(bytes.size() >= kLength, "{}: {} bytes are no safetensors file", what, bytes.size());
  uint64_t length = 0;
  for (size_t i = 0; i < kLength; ++i) length |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  check(length <= kMaxHeader, "{}: no safetensors file: its header would have {} bytes", what,
        length);
  check(length <= bytes.size() - kLength, "{}: the header has {} bytes, the file {}", what, length,
        bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLength, length);
  check(text.starts_with('{'), "{}: no safetensors file: the header does not start with {{", what);
  const Json header = parse_json(text, what, {.bytes = kMaxHeader, .depth = 4});
  check(header.size() <= kMaxTensors + 1, "{}: {} tensors, at most {} are read", what,
        header.size(), kMaxTensors);

  StoredTensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      check_metadata(entry, what);
    } else {
      tensors.emplace(name, read_entry(entry, what, name));
    }
  }
  check(tensors.size() <= kMaxTensors, "{}: {} tensors, at most {} are read", what, tensors.size(),
        kMaxTensors);
  check_layout(tensors, bytes.size() - kLength - length, what);
  for (auto& [name, stored] : tensors) stored.offset += kLength + length;
  return tensors;
}

std::map<std::string, Tensor> read_safetensors(const Path& path) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, stored] : map_tensors(path, parse_safetensors)) {
    tensors.emplace(name, read(stored));
  }
  return tensors;
}

std::string safetensors_header(std::span<const NamedType> tensors) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t end = 0;
  for (const NamedType& tensor : tensors) {
    Json shape = Json::array();
    for (const Dim& dim : tensor.type.shape) shape.push_back(dim.size);
    const int64_t begin = end;
    end += byte_count(tensor.type);
    header[tensor.name] = {
        {"dtype", dtype_name(tensor.type.dtype)}, {"shape", shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.append((kLength - text.size() % kLength) % kLength, ' ');
  std::string length(kLength, '\0');
  for (size_t i = 0; i < kLength; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  return length + text;
}

}  // namespace ng
