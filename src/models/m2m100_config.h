// What do config.json and the weight files of an M2M100 / NLLB-200 checkpoint say, and do they
// agree?
#pragma once

#include "checkpoint/checkpoint.h"

namespace ng {

inline constexpr int64_t kMaxLayers = 256;        // of the encoder, and of the decoder
inline constexpr int64_t kMaxModelSize = 65'536;  // d_model
inline constexpr int64_t kMaxFfn = 1'048'576;     // hidden size of a feed-forward layer
inline constexpr int64_t kMinVocabulary = 8;
inline constexpr int64_t kMaxVocabulary = 4'000'000;

// Defaults are those of transformers 4.57.6's M2M100Config: what an absent key means.
struct M2M100Config {
  struct Stack {
    int64_t layers = 12, ffn = 4096, heads = 16;  // head_dim = d_model / heads
  };
  int64_t vocab_size = 128112;
  int64_t d_model = 1024;
  Stack encoder, decoder;
  std::string activation = "relu";         // relu | gelu (the exact one) | swish
  bool scale_embedding = true;             // token embeddings × sqrt(d_model)
  int64_t max_position_embeddings = 1024;  // never a limit
  int64_t bos = 0, pad = 1, decoder_start = 2;
  std::vector<int64_t> eos = {2};
  bool tied = true;  // tie_word_embeddings
};

// User error: another model_type, a size out of bounds, an unknown activation, an option that would
// change results. Keys that matter to training only are not looked at.
M2M100Config parse_m2m100_config(const Json& config, std::string_view what);

// Every tensor of the model with its shape, under transformers' own name ("model.shared.weight" for
// the tied embedding; no lm_head).
std::map<std::string, Shape> m2m100_tensors(const M2M100Config& config);

// Those names → the checkpoint's names: without "model." in base-model checkpoints, the embedding
// under any of its four names. User error that names the tensor: missing, another shape, not of
// floats, unknown, copies of the embedding that differ.
std::map<std::string, std::string> find_m2m100_tensors(const M2M100Config& config,
                                                       const Checkpoint& checkpoint);

}  // namespace ng
