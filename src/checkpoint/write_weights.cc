#include "checkpoint/write_weights.h"

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace ng {
namespace {

void write_safetensors_file(const Path& path, std::span<const Weight> weights,
                            const FillWeight& fill) {
  std::vector<NamedType> types;
  for (const Weight& weight : weights) types.push_back({weight.name, weight.type});
  FileWriter writer(path);
  writer.write(safetensors_header(types));
  for (const Weight& weight : weights) {
    fill(weight, [&](std::span<const std::byte> bytes) { writer.write(bytes); });
  }
  writer.close();
}

}  // namespace

Shards split_weights(const std::vector<Weight>& weights, size_t shards) {
  check(shards >= 1 && shards <= weights.size(), "{} shards for {} tensors", shards,
        weights.size());
  int64_t left = 0;  // aliases count here, as they do in transformers
  for (const Weight& weight : weights) left += byte_count(weight.type);
  Shards split(1);
  int64_t here = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const size_t files = shards - split.size() + 1;  // this one and those to come
    const bool full = here > 0 && here >= (here + left) / static_cast<int64_t>(files);
    const bool needed = !split.back().empty() && weights.size() - i < files;
    if (files > 1 && (full || needed)) {
      split.emplace_back();
      here = 0;
    }
    split.back().push_back(weights[i]);
    here += byte_count(weights[i].type);
    left -= byte_count(weights[i].type);
  }
  return split;
}

uint64_t stored_bytes(const Shards& shards) {
  uint64_t bytes = 0;
  for (const auto& weights : shards) {
    std::set<std::string> seen;
    for (const Weight& weight : weights) {
      if (seen.insert(weight.values).second)
        bytes += static_cast<uint64_t>(byte_count(weight.type));
    }
  }
  return bytes;
}

void write_weights(const Path& directory, const Shards& shards, WeightFormat format,
                   const FillWeight& fill) {
  const bool safetensors = format == WeightFormat::safetensors;
  const std::string stem = safetensors ? "model" : "pytorch_model";
  const std::string suffix = safetensors ? ".safetensors" : ".bin";
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string number =
        shards.size() == 1 ? "" : fmt::format("-{:05}-of-{:05}", i + 1, shards.size());
    const std::string name = stem + number + suffix;
    if (safetensors) {
      write_safetensors_file(directory / name, shards[i], fill);
    } else {
      write_torch_zip(directory / name, shards[i], fill);
    }
    for (const Weight& weight : shards[i]) map[weight.name] = name;
  }
  if (shards.size() == 1) return;
  const Json index = {{"metadata", {{"total_size", stored_bytes(shards)}}}, {"weight_map", map}};
  write_file(directory / (stem + suffix + ".index.json"), index.dump(2) + "\n");
}

}  // namespace ng
