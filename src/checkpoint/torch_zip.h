// What does a pytorch_model.bin hold? (torch.save since 1.6: a zip of one pickle and raw storages.)
#pragma once

#include "checkpoint/stored_tensor.h"

namespace ng {

// A file inside a zip: its bytes are stored as they are.
struct ZipRecord {
  uint64_t offset = 0, size = 0;  // from the start of the zip
};

// The central directory, zip64 included. User error: damaged, compressed, encrypted or split
// archives; a name twice; records out of range or over one another.
std::map<std::string, ZipRecord> parse_zip(std::span<const std::byte> bytes, std::string_view what);

// The tensors of a whole file's bytes; `what` names it in errors. Tensors may share storages and be
// strided. User error also for what pickle.h refuses, for big-endian files, and for tensors that
// reach outside their storage or repeat its elements.
StoredTensors parse_torch_zip(std::span<const std::byte> bytes, std::string_view what);

}  // namespace ng
