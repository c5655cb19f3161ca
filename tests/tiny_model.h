// A tiny model with random weights and random requests, for tests of passes and backends.
#pragma once

#include <map>
#include <random>
#include <string>

#include "ir/interpret.h"
#include "models/m2m100.h"

namespace ng::test {

inline constexpr Sizes kTinySizes = {512, 512, 64, 512, 512, 64};

// With ranks, of 2 or 4 that can run it.
inline M2M100Config tiny_config(const std::string& activation = "relu", int64_t ranks = 1) {
  M2M100Config config;
  config.vocab_size = 1111;  // two tiles of the log-sum-exp, the last panel not full
  config.d_model = 24;
  config.encoder = {2, 40, 3};
  config.decoder = {3, 17, 2};
  if (ranks > 1) config.encoder = {2, 40, 4}, config.decoder = {3, 20, 8};
  config.activation = activation;
  return config;
}

inline Tensor random_f32(const Type& type, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-0.6F, 0.6F);
  std::vector<float> values(static_cast<size_t>(element_count(type.shape)));
  for (float& value : values) value = uniform(random);
  return Tensor::of<float>(DType::f32, type.shape, values);
}

inline Tensor s32(Shape shape, const std::vector<int32_t>& values) {
  return Tensor::of<int32_t>(DType::s32, std::move(shape), values);
}

// The same bytes for one name, whoever asks.
inline Tensor random_weight(const std::string& name, const Type& type) {
  return random_f32(type, std::hash<std::string>()(name));
}

// Every weight a graph names, made of `random_weight`.
inline std::map<std::string, Tensor> weights_of(const Graph& graph) {
  std::map<std::string, Tensor> weights;
  for (const Node& node : graph.nodes()) {
    if (node.op == Op::weight) {
      weights[node.attrs.name] = random_weight(node.attrs.name, node.types[0]);
    }
  }
  return weights;
}

// Random but sensible inputs for a phase: `rows` tokens or rows, states of `capacity` rows.
inline std::map<std::string, Tensor> random_inputs(const Graph& graph, int64_t rows,
                                                   int64_t context, int64_t capacity,
                                                   uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return static_cast<int32_t>(std::uniform_int_distribution<int64_t>(low, high)(random));
  };
  std::map<std::string, Tensor> inputs;
  for (const Named& in : graph.inputs()) {
    Type type = graph.type(in.value);
    for (Dim& dim : type.shape) {
      if (dim.count == Count::tokens || dim.count == Count::rows) dim = Dim(rows);
      if (dim.count == Count::context) dim = Dim(context);
      if (dim.count == Count::cache || dim.count == Count::memory) dim = Dim(capacity);
    }
    if (type.dtype == DType::f32) {
      inputs[in.name] = random_f32(type, random());
      continue;
    }
    std::vector<int32_t> values(static_cast<size_t>(element_count(type.shape)));
    for (size_t i = 0; i < values.size(); ++i) {
      if (in.name == "tokens") values[i] = pick(0, 1110);
      if (in.name == "positions") values[i] = pick(1, 60);
      if (in.name == "start" || in.name == "memory_start") values[i] = pick(0, 2);
      if (in.name == "length" || in.name == "memory_length") {
        values[i] = pick(1, std::min(rows, context) - 2);
      }
      if (in.name == "history") values[i] = pick(0, capacity - 1);
      if (in.name == "cache_index" || in.name == "memory_index") {
        values[i] = static_cast<int32_t>(i) - 1;  // the first is written nowhere
      }
    }
    inputs[in.name] = s32(type.shape, values);
  }
  return inputs;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.type == b.type && std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

}  // namespace ng::test
