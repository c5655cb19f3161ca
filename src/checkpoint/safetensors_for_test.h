// A small safetensors file of whole tensors, for tests.
#pragma once

#include "checkpoint/safetensors.h"

namespace ng {

inline void write_safetensors(const Path& path, const std::map<std::string, Tensor>& tensors) {
  std::vector<NamedType> types;
  for (const auto& [name, tensor] : tensors) types.push_back({name, tensor.type});
  FileWriter writer(path);
  writer.write(safetensors_header(types));
  for (const auto& [name, tensor] : tensors) writer.write(tensor.data);
  writer.close();
}

}  // namespace ng
