// The encoder and decoder of M2M-100 / NLLB-200 as graphs: pre-norm layers, sinusoidal positions,
// one embedding for source, target and projection (transformers' modeling_m2m_100.py).
#include "models/m2m100.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ir/build.h"

namespace ng {
namespace {

constexpr float kLayerNormEps = 1e-5F;  // torch's default; no config names another

ActivationKind activation_kind(const std::string& name) {
  if (name == "relu") return ActivationKind::relu;
  if (name == "gelu") return ActivationKind::gelu;
  NG_CHECK(name == "swish", "activation {}", name);
  return ActivationKind::silu;
}

// Builds one phase.
class Builder {
 public:
  Builder(const M2M100Config& config, std::string_view phase, const Sizes& sizes)
      : config_(config), shapes_(m2m100_tensors(config)), sizes_(sizes), g(std::string(phase)) {}

  Graph encode();
  Graph decode();  // prefill, decode and logits: they differ in the projection

 private:
  Type s32(Shape shape) const { return {DType::s32, std::move(shape)}; }
  Dim rows() const { return {sizes_.rows, Count::rows}; }
  Dim tokens() const { return {sizes_.tokens, Count::tokens}; }
  Type cache_type() const { return {DType::f32, {{sizes_.cache, Count::cache}, config_.d_model}}; }
  Type memory_type() const {
    return {DType::f32, {{sizes_.memory, Count::memory}, config_.d_model}};
  }

  Value tensor(const std::string& name) {
    return weight(g, name, Type{DType::f32, shapes_.at(name)});
  }
  Value norm(const std::string& name, Value x) {
    return layer_norm(g, x, tensor(name + ".weight"), tensor(name + ".bias"), kLayerNormEps);
  }
  Value project(const std::string& name, Value x) {
    const Value matrix = tensor(name + ".weight");
    return linear(g, {x, matrix, tensor(name + ".bias"), {}}, g.type(matrix).size(0));
  }
  Value plus(Value a, Value b) { return elementwise(g, Op::add, {a, b}); }

  Value embedded(Dim count);
  Value feed_forward(const std::string& layer, Value x);
  Value decoder_layer(int64_t i, Value x);
  void write_memory(Value hidden);
  void output_projection(Value hidden);
  void output(const std::string& name, Value value) { g.outputs.push_back({name, value}); }
  float attention_scale(int64_t heads) const {
    const int64_t head_dim = config_.d_model / heads;  // divides
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  }

  const M2M100Config& config_;
  std::map<std::string, Shape> shapes_;
  Sizes sizes_;
  Graph g;
};

// x[t] = E[token] · sqrt(d) + P[position]
Value Builder::embedded(Dim count) {
  const float scale = config_.scale_embedding
                          ? static_cast<float>(std::sqrt(static_cast<double>(config_.d_model)))
                          : 1.0F;
  const Value ids = input(g, "tokens", s32({count}));
  const Value positions = input(g, "positions", s32({count}));
  const Value table = tensor("model.shared.weight");
  return embed(g, {ids, positions, table, frequencies(g, config_.d_model / 2)}, scale, config_.pad);
}

// x + W2 · activation(W1 · LN(x))
Value Builder::feed_forward(const std::string& layer, Value x) {
  const Value h = norm(layer + ".final_layer_norm", x);
  const Value inner = activate(g, project(layer + ".fc1", h), activation_kind(config_.activation));
  return plus(project(layer + ".fc2", inner), x);
}

Graph Builder::encode() {
  Value x = embedded(tokens());
  const Value start = input(g, "start", s32({tokens(), 1}));
  const Value length = input(g, "length", s32({tokens()}));
  const int64_t heads = config_.encoder.heads;
  for (int64_t i = 0; i < config_.encoder.layers; ++i) {
    const std::string layer = fmt::format("model.encoder.layers.{}", i);
    const Value h = norm(layer + ".self_attn_layer_norm", x);
    const AttendInputs attention = {project(layer + ".self_attn.q_proj", h),
                                    project(layer + ".self_attn.k_proj", h),
                                    project(layer + ".self_attn.v_proj", h), start, length};
    const Value mixed = attend(g, attention, heads, attention_scale(heads));
    x = plus(project(layer + ".self_attn.out_proj", mixed), x);
    x = feed_forward(layer, x);
    output(fmt::format("encoder.{}", i), x);
  }
  const Value hidden = norm("model.encoder.layer_norm", x);
  output("hidden", hidden);
  write_memory(hidden);
  return std::move(g);
}

// Every decoder layer's cross-attention keys and values of the encoded tokens.
void Builder::write_memory(Value hidden) {
  const Value index = input(g, "memory_index", s32({tokens()}));
  for (int64_t i = 0; i < config_.decoder.layers; ++i) {
    const std::string layer = fmt::format("model.decoder.layers.{}.encoder_attn", i);
    const std::string keys = fmt::format("memory_keys.{}", i);
    const std::string values = fmt::format("memory_values.{}", i);
    output(keys,
           write_rows(g, input(g, keys, memory_type()), project(layer + ".k_proj", hidden), index));
    output(values, write_rows(g, input(g, values, memory_type()),
                              project(layer + ".v_proj", hidden), index));
  }
}

Value Builder::decoder_layer(int64_t i, Value x) {
  const std::string layer = fmt::format("model.decoder.layers.{}", i);
  const std::string keys = fmt::format("keys.{}", i), values = fmt::format("values.{}", i);
  const int64_t heads = config_.decoder.heads;
  const Value index = input(g, "cache_index", s32({rows()}));
  Value h = norm(layer + ".self_attn_layer_norm", x);
  AttendInputs attention;
  attention.q = project(layer + ".self_attn.q_proj", h);
  attention.keys =
      write_rows(g, input(g, keys, cache_type()), project(layer + ".self_attn.k_proj", h), index);
  attention.values =
      write_rows(g, input(g, values, cache_type()), project(layer + ".self_attn.v_proj", h), index);
  attention.history = input(g, "history", s32({rows(), {sizes_.context, Count::context}}));
  attention.length = input(g, "length", s32({rows()}));
  output(keys, attention.keys);
  output(values, attention.values);
  Value mixed = attend(g, attention, heads, attention_scale(heads));
  x = plus(project(layer + ".self_attn.out_proj", mixed), x);

  h = norm(layer + ".encoder_attn_layer_norm", x);
  attention.q = project(layer + ".encoder_attn.q_proj", h);
  attention.keys = input(g, "memory_" + keys, memory_type());
  attention.values = input(g, "memory_" + values, memory_type());
  attention.history = input(g, "memory_start", s32({rows(), 1}));
  attention.length = input(g, "memory_length", s32({rows()}));
  mixed = attend(g, attention, heads, attention_scale(heads));
  x = plus(project(layer + ".encoder_attn.out_proj", mixed), x);
  return feed_forward(layer, x);
}

Graph Builder::decode() {
  Value x = embedded(rows());
  for (int64_t i = 0; i < config_.decoder.layers; ++i) {
    x = decoder_layer(i, x);
    output(fmt::format("decoder.{}", i), x);
  }
  if (g.name != "prefill") output_projection(norm("model.decoder.layer_norm", x));
  return std::move(g);
}

// logits[t] = hidden · E^T
void Builder::output_projection(Value hidden) {
  const Value table = tensor("model.shared.weight");
  if (g.name == "logits") {
    const Value logits = linear(g, {hidden, table, {}, {}}, config_.vocab_size);
    output("logits", logits);
    output("log_sum_exp", log_sum_exp(g, logits));
    return;
  }
  const Dim k(std::min(sizes_.candidates, config_.vocab_size), Count::candidates);
  const Value best = project_top_k(g, hidden, table, config_.vocab_size, k);
  output("scores", best);
  output("ids", {best.node, 1});
  output("log_sum_exp", {best.node, 2});
}

}  // namespace

Graph build_m2m100(const M2M100Config& config, std::string_view phase, const Sizes& sizes) {
  Builder builder(config, phase, sizes);
  return phase == "encode" ? builder.encode() : builder.decode();
}

Model describe_m2m100(const Json& json, std::string_view what) {
  const M2M100Config config = parse_m2m100_config(json, what);
  Model model;
  model.family = "m2m_100";
  model.vocabulary = config.vocab_size;
  model.pad = config.pad;
  model.decoder_start = config.decoder_start;
  model.eos = config.eos;
  for (const auto& [name, shape] : m2m100_tensors(config)) {
    model.parameters += element_count(shape);
  }
  model.build = [config](std::string_view phase, const Sizes& sizes) {
    return build_m2m100(config, phase, sizes);
  };
  return model;
}

Model open_m2m100(const Checkpoint& checkpoint) {
  const std::string what = (checkpoint.path() / "config.json").string();
  Model model = describe_m2m100(checkpoint.config(), what);
  model.weights = find_m2m100_tensors(parse_m2m100_config(checkpoint.config(), what), checkpoint);
  return model;
}

}  // namespace ng
