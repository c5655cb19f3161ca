#include "models/make_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "models/synthetic_tokenizer.h"

namespace ng {
namespace {

struct ShapeRow {
  const char* name;
  bool nllb;      // else M2M100: another tokenizer, beam search by default
  size_t pieces;  // of the sentencepiece model
  size_t characters;
  int64_t vocab_size, d_model, encoder_layers, decoder_layers, ffn, heads;
};
constexpr ShapeRow kShapes[] = {
    {"nllb-200-distilled-600M", true, 256000, 7942, 256206, 1024, 12, 12, 4096, 16},
    {"nllb-200-distilled-1.3B", true, 256000, 7942, 256206, 1024, 24, 24, 8192, 16},
    {"nllb-200-1.3B", true, 256000, 7942, 256206, 1024, 24, 24, 8192, 16},
    {"nllb-200-3.3B", true, 256000, 7942, 256206, 2048, 24, 24, 8192, 16},
    {"m2m100_418M", false, 128003, 7942, 128112, 1024, 12, 12, 4096, 16},
    {"m2m100_1.2B", false, 128003, 7942, 128112, 1024, 24, 24, 8192, 16},
    {"small100", false, 128003, 7942, 128112, 1024, 12, 3, 4096, 16},
    {"tiny", true, 2048, 400, 2254, 64, 2, 2, 128, 4},
};

const ShapeRow& find_shape(const std::string& name) {
  for (const ShapeRow& shape : kShapes) {
    if (shape.name == name) return shape;
  }
  fail("--shape {}: is not known; {} are", shown(name), fmt::join(checkpoint_shapes(), ", "));
}

// A counter-based generator (SplitMix64's output function): value i of a stream is a function of
// (key, i) in integers, so every machine and every block size gives the same.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}
uint64_t random_bits(uint64_t key, uint64_t index) {
  return mix(key + index * 0x9E3779B97F4A7C15U);
}

uint64_t stream_key(std::string_view name, uint64_t seed) {
  uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3U;
  return mix(hash + mix(seed));
}

// The sum of four uniform 16-bit numbers about its mean: bell-shaped, exact in float.
constexpr double kBellSpread = 37837.2;
float bell(uint64_t key, uint64_t index) {
  const uint64_t bits = random_bits(key, index);
  const uint64_t sum =
      (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
  return static_cast<float>(static_cast<int64_t>(sum) - 131070);
}

struct Spread {
  double mean, deviation;
  bool opposed = false;  // every odd column is the one before it, negated
};

// Linears keep the scale of what they read; queries and keys make attention choose. Greedy decoding
// must not repeat one token: so the decoder's feed-forward layers, which see the token, outweigh
// attention and the embedding (input and output share it), and the columns of fc2 are opposed, or
// the mean of what relu passes would be the same large vector at every step.
Spread spread_of(std::string_view name, const M2M100Config& config) {
  const auto root = [](int64_t size) { return std::sqrt(static_cast<double>(size)); };
  const auto ends = [&](std::string_view suffix) { return name.ends_with(suffix); };
  const bool decoder = name.starts_with("model.decoder.");
  const auto& stack = decoder ? config.decoder : config.encoder;
  const double d = root(config.d_model);
  if (ends("layer_norm.weight")) return {1, 0.1};
  if (ends("layer_norm.bias")) return {0, 0.05};
  if (ends(".bias")) return {0, 0.02};
  if (ends("fc2.weight"))
    return {0, (decoder ? d / root(stack.layers) : 1) / root(stack.ffn), true};
  if (ends("q_proj.weight") || ends("k_proj.weight")) return {0, 1.5 / d};
  if (ends("self_attn.out_proj.weight") || ends("shared.weight")) return {0, 0.5 / d};
  if (ends("encoder_attn.out_proj.weight")) return {0, 0.7 / d};
  return {0, 1 / d};
}

// Appends the float as `dtype`.
void append(std::vector<std::byte>& block, DType dtype, float value) {
  const auto put = [&](auto bits) {
    const size_t at = block.size();
    block.resize(at + sizeof bits);
    std::memcpy(block.data() + at, &bits, sizeof bits);
  };
  switch (dtype) {
    case DType::f16: put(f32_to_f16(value)); break;
    case DType::bf16: put(f32_to_bf16(value)); break;
    default: put(value); break;
  }
}

void fill_weight(const Weight& weight, const Spread& spread, uint64_t key, const PutBytes& put) {
  constexpr size_t kBlock = size_t{1} << 20;
  const auto columns = static_cast<uint64_t>(weight.type.size(-1));
  const uint64_t rows = static_cast<uint64_t>(element_count(weight.type.shape)) / columns;
  const uint64_t pair = spread.opposed ? 1 : 0;
  std::vector<float> scale(columns, static_cast<float>(spread.deviation / kBellSpread));
  for (uint64_t i = 0; i < columns; ++i) {
    if (weight.type.rank() == 2 && random_bits(~key, i & ~pair) % 100 == 0) scale[i] *= 5;
    if ((i & pair) != 0) scale[i] = -scale[i];
  }
  const auto mean = static_cast<float>(spread.mean);
  std::vector<std::byte> block;
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t i = 0; i < columns; ++i) {
      const float value = mean + scale[i] * bell(key, row * columns + (i & ~pair));
      append(block, weight.type.dtype, value);
    }
    if (block.size() < kBlock && row + 1 < rows) continue;
    put(block);
    block.clear();
  }
}

// The order of transformers' state dict, where the tied embedding stands under four names.
std::vector<Weight> list_weights(const M2M100Config& config, DType dtype, bool aliases) {
  const std::string shared = "model.shared.weight";
  const Type embedding{dtype, {config.vocab_size, config.d_model}};
  std::vector<Weight> weights = {{shared, embedding, shared}};
  const auto tensors = m2m100_tensors(config);
  for (const std::string stack : {"model.encoder.", "model.decoder."}) {
    if (aliases) weights.push_back({stack + "embed_tokens.weight", embedding, shared});
    for (const auto& [name, shape] : tensors) {
      if (name.starts_with(stack)) weights.push_back({name, {dtype, shape}, name});
    }
  }
  if (aliases) weights.push_back({"lm_head.weight", embedding, shared});
  return weights;
}

Json config_json(const ShapeRow& shape, DType dtype) {
  Json config = Json::parse(R"({
    "architectures": ["M2M100ForConditionalGeneration"], "model_type": "m2m_100",
    "activation_function": "relu", "scale_embedding": true, "max_position_embeddings": 1024,
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0, "encoder_layerdrop": 0,
    "decoder_layerdrop": 0, "init_std": 0.02, "is_encoder_decoder": true, "use_cache": true,
    "max_length": 200})");
  config["_name_or_path"] = shape.name;
  config["vocab_size"] = shape.vocab_size;
  config["d_model"] = shape.d_model;
  config["encoder_layers"] = config["num_hidden_layers"] = shape.encoder_layers;
  config["decoder_layers"] = shape.decoder_layers;
  config["encoder_ffn_dim"] = config["decoder_ffn_dim"] = shape.ffn;
  config["encoder_attention_heads"] = config["decoder_attention_heads"] = shape.heads;
  config["tokenizer_class"] = shape.nllb ? "NllbTokenizer" : "M2M100Tokenizer";
  config["torch_dtype"] = dtype == DType::f32   ? "float32"
                          : dtype == DType::f16 ? "float16"
                                                : "bfloat16";
  return config;
}

void write_texts(const Path& directory, const ShapeRow& shape, const CheckpointRecipe& recipe) {
  write_file(directory / "config.json", config_json(shape, recipe.dtype).dump(2) + "\n");
  Json generation = Json::parse(R"({"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2, "max_length": 200})");
  if (!shape.nllb) generation.update({{"num_beams", 5}, {"early_stopping", true}});
  write_file(directory / "generation_config.json", generation.dump(2) + "\n");
  write_file(directory / "README.md",
             fmt::format("Random weights in the shape of {}, made by `neuroglot make-checkpoint "
                         "--seed {}` for tests and benchmarks: they translate nothing.\n",
                         shape.name, recipe.seed));
  const SyntheticVocabulary vocabulary = make_vocabulary(shape.pieces - 3, shape.characters);
  if (shape.nllb) {
    write_nllb_tokenizer(directory, vocabulary, recipe.languages);
  } else {
    write_m2m100_tokenizer(directory, vocabulary);
  }
}

}  // namespace

std::vector<std::string> checkpoint_shapes() {
  std::vector<std::string> names;
  for (const ShapeRow& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

void make_checkpoint(const CheckpointRecipe& recipe, const Path& out) {
  const ShapeRow& shape = find_shape(recipe.shape);
  const bool known =
      recipe.dtype == DType::f32 || recipe.dtype == DType::f16 || recipe.dtype == DType::bf16;
  check(known, "--dtype {}: f32, f16 and bf16 can be written", name(recipe.dtype));
  const M2M100Config config = parse_m2m100_config(config_json(shape, recipe.dtype), shape.name);
  const Shards shards = split_weights(
      list_weights(config, recipe.dtype, recipe.format == WeightFormat::bin), recipe.shards);
  const uint64_t total = stored_bytes(shards);
  DirectoryWriter directory(out, false);
  const uint64_t needed = total + (uint64_t{64} << 20);
  const uint64_t free = free_disk_bytes(directory.path());
  check(free >= needed, "{}: needs {} MB, {} MB are free", out.string(), needed / 1'000'000,
        free / 1'000'000);

  write_texts(directory.path(), shape, recipe);
  uint64_t done = 0;
  const auto fill = [&](const Weight& weight, const PutBytes& put) {
    const auto counted = [&](std::span<const std::byte> bytes) {
      put(bytes);
      done += bytes.size();
      if (recipe.progress) recipe.progress(done, total);
    };
    fill_weight(weight, spread_of(weight.values, config), stream_key(weight.values, recipe.seed),
                counted);
  };
  write_weights(directory.path(), shards, recipe.format, fill);
  directory.commit();
}

}  // namespace ng
