// Which tensors does the pickle inside a torch file describe? Nothing is imported or called.
#pragma once

#include <span>

#include "checkpoint/stored_tensor.h"

namespace ng {

// torch._utils._rebuild_tensor_v2(storage, offset, size, stride), unchecked against the storage.
struct PickledTensor {
  DType dtype = DType::f32;
  std::string storage;                // its key: the record's name under data/
  int64_t numel = 0;                  // elements of the storage
  int64_t offset = 0;                 // of the first element, in elements
  std::vector<int64_t> size, stride;  // [rank], in elements
};

// The (Ordered)dict name → tensor of `bytes`, also where it stands under "state_dict" or "model".
// Only the opcodes and globals that torch's weights_only loader allows and that state dicts need
// are understood; anything else is a User error that names it. A small machine with a bounded
// stack, a bounded number of objects and no recursion.
std::map<std::string, PickledTensor> parse_pickle(std::span<const std::byte> bytes,
                                                  std::string_view what);

}  // namespace ng
