// Sessions of the tiny model, and random jobs for them: whose results tests compare.
#pragma once

#include <fmt/ranges.h>

#include <bit>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/text.h"
#include "passes/passes.h"
#include "tiny_model.h"
#include "translate/batch.h"

namespace ng::test {

// The tiny model's phases, lowered for the CPU, with their prepared weights.
struct TinyPhases {
  std::map<std::string, std::string> texts;
  std::map<std::string, Tensor> weights;

  explicit TinyPhases(DType dtype) {
    Graph prepare("prepare");
    for (const std::string_view phase : kPhases) {
      const Graph graph = build_m2m100(tiny_config(), phase, {4096, 4096, 512, 65536, 8192, 1111});
      LoweringOptions options;
      options.weight_dtype = dtype;
      const Split split = lower(graph, options);
      texts[std::string(phase)] = print(split.phase);
      merge_prepare(prepare, split.prepare);
    }
    const auto leaves = weights_of(prepare);
    Bindings bindings;
    bindings.weight = [&](const std::string& name) { return leaves.at(name); };
    weights = interpret(prepare, bindings);
  }
  Phases phases() const {
    return {1111, 1, [this](const std::string& phase) { return texts.at(phase); },
            [this](const std::string& name) { return weights.at(name); }};
  }
};

inline const TinyPhases& tiny() {
  static const TinyPhases phases(DType::f32);
  return phases;
}

inline Job random_job(std::mt19937_64& random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<int32_t> source(static_cast<size_t>(pick(0, 1) == 0 ? pick(1, 200) : pick(1, 12)));
  for (int32_t& id : source) id = pick(0, 1110);
  GenerationOptions options;
  options.num_beams = pick(1, 5);
  options.max_length = pick(3, 14);
  options.eos_token_id = {2, 7};
  options.length_penalty = pick(0, 20) / 10.0;
  if (pick(0, 2) == 0) options.repetition_penalty = pick(0, 1) == 0 ? 1.3 : 0.8;
  if (pick(0, 3) == 0) options.no_repeat_ngram_size = 2;
  if (pick(0, 1) == 0) options.forced_bos_token_id = pick(3, 1110);
  std::vector<int32_t> prompt = {2};
  if (pick(0, 3) == 0) prompt.push_back(pick(0, 1110));
  return {source, {}, BeamSearch(options, prompt, 1111), ""};
}

inline std::string result_of(const Job& job) {
  std::string text = job.error;
  if (!job.error.empty()) return text;
  for (const Hypothesis& found : job.search.results()) {
    text += fmt::format("{} {} {};", fmt::join(found.ids, ","),
                        std::bit_cast<uint32_t>(found.score), name(found.reason));
  }
  return text;
}

}  // namespace ng::test
