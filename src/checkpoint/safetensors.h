// What does a safetensors file hold? (The format: github.com/huggingface/safetensors, "Format".)
#pragma once

#include "checkpoint/stored_tensor.h"

namespace ng {

// The tensors of a whole file's bytes; `what` names it in errors. User error unless every rule of
// the format holds: header size and JSON, no key twice, dtypes, offsets that are in order, without
// holes or overlap and end with the file, sizes that agree with shapes. Offsets may be unaligned.
// dtypes without a DType (8-bit floats and less, 16-bit and unsigned integers) are refused by name.
StoredTensors parse_safetensors(std::span<const std::byte> bytes, std::string_view what);

// Small files whole, for `forward`.
std::map<std::string, Tensor> read_safetensors(const Path& path);

// The 8 bytes of length and the padded JSON before the data of `tensors`, which follow in the
// order given. {"format": "pt"} is what transformers demands to load a file.
struct NamedType {
  std::string name;
  Type type;
};
std::string safetensors_header(std::span<const NamedType> tensors);

}  // namespace ng
