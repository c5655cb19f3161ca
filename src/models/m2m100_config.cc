#include "models/m2m100_config.h"

#include <algorithm>

#include "base/error.h"

namespace ng {
namespace {

// Keys whose other values mean another model. Those that transformers' class does not know are
// left over from fairseq and BART configurations.
void check_options(const Json& config, std::string_view what) {
  constexpr struct {
    const char* key;
    bool wanted;
  } kOptions[] = {
      {"is_encoder_decoder", true}, {"normalize_before", true},     {"normalize_embedding", false},
      {"add_bias_logits", false},   {"add_final_layer_norm", true}, {"tie_encoder_decoder", false},
  };
  for (const auto& option : kOptions) {
    check(json_bool(config, option.key, option.wanted, what) == option.wanted,
          "{}: \"{}\" must be {}: the other value is a different model", what, option.key,
          option.wanted);
  }
  for (const char* key : {"quantization_config", "pruned_heads"}) {
    const auto found = config.find(key);
    check(found == config.end() || found->is_null() || found->empty(),
          "{}: \"{}\" is set: give the checkpoint without it", what, key);
  }
}

void check_model_type(const Json& config, std::string_view what) {
  const std::string type = json_string(config, "model_type", "", what);
  check(type == "m2m_100",
        "{}: model_type '{}' is not read; m2m_100 is (NLLB-200 dense, M2M100, SMaLL-100)", what,
        shown(type));
}

int64_t read_size(const Json& config, const char* key, int64_t fallback, int64_t limit,
                  std::string_view what) {
  const int64_t value = json_int(config, key, fallback, what);
  check(value >= 1 && value <= limit,
        "{}: \"{}\" is {}, must be from 1 to {}: correct it to what the weights have, or take a "
        "smaller model",
        what, key, value, limit);
  return value;
}

// As transformers does, an alias takes the place of the key it stands for; two values are refused.
int64_t read_aliased(const Json& config, const char* key, const char* alias, int64_t fallback,
                     int64_t limit, std::string_view what) {
  const int64_t value = read_size(config, key, fallback, limit, what);
  const int64_t other = read_size(config, alias, value, limit, what);
  check(other == value || !config.contains(key), "{}: \"{}\" is {} but \"{}\" is {}", what, key,
        value, alias, other);
  return other;
}

// "relu", "gelu" or "swish" for every name that transformers gives the same function.
std::string read_activation(const Json& config, std::string_view what) {
  const std::string name = json_string(config, "activation_function", "relu", what);
  if (name == "gelu_python") return "gelu";
  if (name == "silu") return "swish";
  check(name == "relu" || name == "gelu" || name == "swish",
        "{}: activation_function '{}' is not known; relu, gelu, swish and silu are", what,
        shown(name));
  return name;
}

int64_t checked_id(int64_t id, const char* key, int64_t vocab_size, std::string_view what) {
  check(id >= 0 && id < vocab_size, "{}: \"{}\" is {}, the vocabulary has {} ids", what, key, id,
        vocab_size);
  return id;
}

int64_t read_id(const Json& config, const char* key, int64_t fallback, int64_t vocab_size,
                std::string_view what) {
  return checked_id(json_int(config, key, fallback, what), key, vocab_size, what);
}

// eos_token_id: one id or a list.
std::vector<int64_t> read_eos(const Json& config, int64_t vocab_size, std::string_view what) {
  const char* key = "eos_token_id";
  const auto found = config.find(key);
  if (found == config.end() || !found->is_array()) {
    return {read_id(config, key, 2, vocab_size, what)};
  }
  check(!found->empty() && found->size() <= 64, "{}: \"{}\" must hold 1 to 64 ids", what, key);
  std::vector<int64_t> ids;
  for (const Json& item : *found) {
    ids.push_back(checked_id(json_int(Json{{key, item}}, key, -1, what), key, vocab_size, what));
  }
  return ids;
}

void add_linear(std::map<std::string, Shape>& tensors, const std::string& name, int64_t out,
                int64_t in) {
  tensors[name + ".weight"] = {out, in};
  tensors[name + ".bias"] = {out};
}

void add_norm(std::map<std::string, Shape>& tensors, const std::string& name, int64_t size) {
  tensors[name + ".weight"] = {size};
  tensors[name + ".bias"] = {size};
}

void add_attention(std::map<std::string, Shape>& tensors, const std::string& name, int64_t size) {
  for (const char* part : {".k_proj", ".v_proj", ".q_proj", ".out_proj"}) {
    add_linear(tensors, name + part, size, size);
  }
  add_norm(tensors, name + "_layer_norm", size);
}

constexpr std::string_view kEmbedding = "model.shared.weight";

// Names that transformers itself drops when it loads: tables that are computed, and marks of old
// fairseq versions.
bool is_ignored(std::string_view name) {
  for (const char* suffix :
       {".version", "_float_tensor", ".embed_positions.weights", ".embed_positions.weight",
        ".embed_positions.bias", ".output_projection.weight"}) {
    if (name.ends_with(suffix)) return true;
  }
  return false;
}

void check_tensor(const Checkpoint& checkpoint, const std::string& name, const Shape& shape) {
  const StoredTensor* stored = checkpoint.find(name);
  const std::string where = checkpoint.path().string();
  check(stored != nullptr, "{}: the tensor '{}' is missing", where, name);
  check(stored->type.shape == shape, "{}: '{}' is {}, config.json says {}", where, name,
        to_string(stored->type.shape), to_string(shape));
  check(is_float(stored->type.dtype), "{}: '{}' holds {}, must hold floats", where, name,
        ng::name(stored->type.dtype));
}

// The stored names of the one embedding: those of its four that are there, all the same values.
std::vector<std::string> find_embedding(const M2M100Config& config, const Checkpoint& checkpoint,
                                        const std::string& prefix) {
  const std::string where = checkpoint.path().string();
  std::vector<std::string> present, absent;
  for (const std::string& name :
       {prefix + "shared.weight", prefix + "encoder.embed_tokens.weight",
        prefix + "decoder.embed_tokens.weight", std::string("lm_head.weight")}) {
    (checkpoint.find(name) != nullptr ? present : absent).push_back(name);
  }
  check(!present.empty(), "{}: the embedding '{}' is missing, under its other names too", where,
        prefix + "shared.weight");
  check(config.tied || absent.empty(),
        "{}: \"tie_word_embeddings\" is false and '{}' is missing: its values are unknown", where,
        absent.empty() ? "" : absent[0]);
  for (const std::string& name : present) {
    check_tensor(checkpoint, name, {config.vocab_size, config.d_model});
    check(same_values(*checkpoint.find(present[0]), *checkpoint.find(name)),
          "{}: '{}' and '{}' differ: only models with one embedding for input and output are read",
          where, present[0], name);
  }
  return present;
}

}  // namespace

M2M100Config parse_m2m100_config(const Json& json, std::string_view what) {
  check_model_type(json, what);
  check_options(json, what);
  M2M100Config config;
  config.vocab_size = read_size(json, "vocab_size", config.vocab_size, kMaxVocabulary, what);
  check(config.vocab_size >= kMinVocabulary, "{}: \"vocab_size\" is {}, must be at least {}", what,
        config.vocab_size, kMinVocabulary);
  config.d_model =
      read_aliased(json, "d_model", "hidden_size", config.d_model, kMaxModelSize, what);
  check(config.d_model >= 4, "{}: \"d_model\" is {}, must be at least 4", what, config.d_model);
  config.encoder = {read_size(json, "encoder_layers", 12, kMaxLayers, what),
                    read_size(json, "encoder_ffn_dim", 4096, kMaxFfn, what),
                    read_aliased(json, "encoder_attention_heads", "num_attention_heads", 16,
                                 kMaxModelSize, what)};
  config.decoder = {read_size(json, "decoder_layers", 12, kMaxLayers, what),
                    read_size(json, "decoder_ffn_dim", 4096, kMaxFfn, what),
                    read_size(json, "decoder_attention_heads", 16, kMaxModelSize, what)};
  for (int64_t heads : {config.encoder.heads, config.decoder.heads}) {
    check(config.d_model % heads == 0, "{}: {} attention heads do not divide d_model {}", what,
          heads, config.d_model);
  }
  config.activation = read_activation(json, what);
  config.scale_embedding = json_bool(json, "scale_embedding", true, what);
  config.max_position_embeddings = json_int(json, "max_position_embeddings", 1024, what);
  config.bos = read_id(json, "bos_token_id", 0, config.vocab_size, what);
  config.pad = read_id(json, "pad_token_id", 1, config.vocab_size, what);
  config.decoder_start = read_id(json, "decoder_start_token_id", 2, config.vocab_size, what);
  config.eos = read_eos(json, config.vocab_size, what);
  config.tied = json_bool(json, "tie_word_embeddings", true, what);
  return config;
}

std::map<std::string, Shape> m2m100_tensors(const M2M100Config& config) {
  const int64_t d = config.d_model;
  std::map<std::string, Shape> tensors;
  tensors[std::string(kEmbedding)] = {config.vocab_size, d};
  for (const bool decoder : {false, true}) {
    const std::string stack = decoder ? "model.decoder." : "model.encoder.";
    const M2M100Config::Stack& sizes = decoder ? config.decoder : config.encoder;
    for (int64_t i = 0; i < sizes.layers; ++i) {
      const std::string layer = fmt::format("{}layers.{}.", stack, i);
      add_attention(tensors, layer + "self_attn", d);
      if (decoder) add_attention(tensors, layer + "encoder_attn", d);
      add_linear(tensors, layer + "fc1", sizes.ffn, d);
      add_linear(tensors, layer + "fc2", d, sizes.ffn);
      add_norm(tensors, layer + "final_layer_norm", d);
    }
    add_norm(tensors, stack + "layer_norm", d);
  }
  return tensors;
}

std::map<std::string, std::string> find_m2m100_tensors(const M2M100Config& config,
                                                       const Checkpoint& checkpoint) {
  constexpr std::string_view kPrefix = "model.";
  const auto& stored = checkpoint.tensors();
  const auto first = stored.lower_bound(std::string(kPrefix));
  const std::string prefix =
      first != stored.end() && first->first.starts_with(kPrefix) ? "model." : "";
  const std::vector<std::string> embedding = find_embedding(config, checkpoint, prefix);

  std::map<std::string, std::string> found = {{std::string(kEmbedding), embedding[0]}};
  std::vector<std::string> known = embedding;
  for (const auto& [name, shape] : m2m100_tensors(config)) {
    if (name == kEmbedding) continue;
    const std::string as_stored = prefix + name.substr(kPrefix.size());
    check_tensor(checkpoint, as_stored, shape);
    found.emplace(name, as_stored);
    known.push_back(as_stored);
  }
  std::sort(known.begin(), known.end());
  for (const auto& [name, tensor] : stored) {
    check(is_ignored(name) || std::binary_search(known.begin(), known.end(), name),
          "{}: '{}' has no place in the model that config.json describes",
          checkpoint.path().string(), shown(name));
  }
  return found;
}

}  // namespace ng
