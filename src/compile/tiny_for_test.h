// Tiny checkpoints with random weights, for tests.
#pragma once

#include <map>
#include <random>

#include "bundle/format.h"
#include "checkpoint/damage_for_test.h"
#include "checkpoint/safetensors_for_test.h"
#include "compile/compile.h"
#include "models/m2m100_config.h"

namespace ng {

inline Json tiny_config() {
  return {{"model_type", "m2m_100"},
          {"vocab_size", 37},
          {"d_model", 24},
          {"encoder_layers", 2},
          {"decoder_layers", 1},
          {"encoder_ffn_dim", 40},
          {"decoder_ffn_dim", 17},
          {"encoder_attention_heads", 3},
          {"decoder_attention_heads", 2},
          {"tokenizer_class", "NllbTokenizer"},
          {"eos_token_id", Json({2, 5})}};
}

// `values` stored as `dtype`, one of the floats.
inline Tensor stored_as(DType dtype, const Shape& shape, std::span<const float> values) {
  if (dtype == DType::f32) return Tensor::of<float>(dtype, shape, values);
  if (dtype == DType::f64) {
    return Tensor::of<double>(dtype, shape, std::vector<double>(values.begin(), values.end()));
  }
  std::vector<uint16_t> bits;
  for (const float x : values) bits.push_back(dtype == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x));
  return Tensor::of<uint16_t>(dtype, shape, bits);
}

inline std::map<std::string, Tensor> tiny_tensors(const Json& config, DType dtype = DType::f32) {
  std::mt19937 random(7);
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : m2m100_tensors(parse_m2m100_config(config, "config.json"))) {
    std::vector<float> values(static_cast<size_t>(element_count(shape)));
    for (float& x : values) x = static_cast<float>(random()) * 0x1p-31F - 1.0F;
    tensors[name] = stored_as(dtype, shape, values);
  }
  return tensors;
}

struct TinyCheckpoint : TemporaryDirectory {
  Path model = path / "model";
  explicit TinyCheckpoint(DType dtype = DType::f32, const Json& config = tiny_config()) {
    std::filesystem::create_directory(model);
    put_file(model / "config.json", config.dump());
    write(tiny_tensors(config, dtype));
  }
  void write(const std::map<std::string, Tensor>& tensors) const {
    write_safetensors(model / "model.safetensors", tensors);
  }
};

// Modules of two sizes of each kind.
inline CompileOptions small_modules() {
  CompileOptions options;
  options.targets = {"pjrt"};
  options.modules.batches = {2, 1};
  options.modules.source_lengths = {8, 4};
  options.modules.target_length = 6;
  options.modules.beams = 2;
  return options;
}

// Another manifest, and its hash, of the bundle at `path`.
inline void put_manifest(const Path& path, const Json& manifest) {
  const std::string text = manifest.dump(2) + "\n";
  put_file(path / kManifestName, text);
  put_file(path / kHashName, hash_line(sha256(text)));
}

// Every file below a directory, by its path in it.
inline std::map<std::string, std::string> contents(const Path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    files[std::filesystem::relative(entry.path(), directory)] =
        read_file(entry.path(), size_t{1} << 30);
  }
  return files;
}

}  // namespace ng
