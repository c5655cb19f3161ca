// How is a checkpoint of a known shape made without the real one, for tests and benchmarks?
#pragma once

#include <functional>

#include "checkpoint/write_weights.h"
#include "models/m2m100_config.h"

namespace ng {

struct CheckpointRecipe {
  std::string shape;  // a name of checkpoint_shapes()
  WeightFormat format = WeightFormat::bin;
  DType dtype = DType::f32;  // f32, f16 or bf16
  size_t shards = 1;
  uint64_t seed = 0;
  std::vector<std::string> languages;                           // NLLB's, in the order of their ids
  std::function<void(uint64_t done, uint64_t total)> progress;  // in bytes; may be empty
};

// The names of the shapes, in order: the four dense NLLB-200, two M2M100, SMaLL-100 and a tiny
// NLLB.
std::vector<std::string> checkpoint_shapes();

// Writes all that a hub directory has: config.json, generation_config.json, weights with the four
// names of the embedding (.bin) or the one that transformers keeps (safetensors), tokenizer files
// with as many pieces as the real ones. The bytes depend on the recipe alone, on every machine. The
// weights are random: bell-shaped with the spread of trained ones, one input column in a hundred
// five times larger, LayerNorm weights near 1; greedy output depends on the source.
// Streams: memory stays below 200 MB. `out` appears only complete. User error: an unknown shape,
// too many shards, an existing `out`, too little free disk.
void make_checkpoint(const CheckpointRecipe& recipe, const Path& out);

}  // namespace ng
