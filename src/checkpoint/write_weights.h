// How are weights written as transformers writes them: one file or shards with their index?
#pragma once

#include <functional>
#include <span>

#include "checkpoint/stored_tensor.h"

namespace ng {

// A tensor to write. Tensors with the same `values` are one tensor under several names.
struct Weight {
  std::string name;
  Type type;
  std::string values;
};

// Calls put() with all bytes of the weight's values, a block at a time. Asked again for every file
// that holds them.
using PutBytes = std::function<void(std::span<const std::byte>)>;
using FillWeight = std::function<void(const Weight& weight, const PutBytes& put)>;

// The weights of each file, in order and of about equal size. User error: more shards than weights.
using Shards = std::vector<std::vector<Weight>>;
Shards split_weights(const std::vector<Weight>& weights, size_t shards);

// Of the data: values once in each file.
uint64_t stored_bytes(const Shards& shards);

// model.safetensors or pytorch_model.bin, or numbered shards and their index, in `directory`.
// safetensors cannot hold one tensor under two names: values must be distinct.
enum class WeightFormat : uint8_t { safetensors, bin };
void write_weights(const Path& directory, const Shards& shards, WeightFormat format,
                   const FillWeight& fill);

// One file as torch.save writes it: a zip64 archive with every storage at a multiple of 64 bytes.
void write_torch_zip(const Path& path, std::span<const Weight> weights, const FillWeight& fill);

}  // namespace ng
