// Sessions over the modules of a tiny model, interpreted or run by the emulated libnrt, beside one
// over the packed phases on the CPU: which tokens do they choose?
#pragma once

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <test_paths.h>

#include "backends/cpu/cpu.h"
#include "backends/neuron/emulated_nrt_for_test.h"
#include "backends/neuron/neuron.h"
#include "backends/reference/reference.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "compile/segments.h"
#include "emulated/pseudo_neff.h"
#include "ir/text.h"
#include "tiny_model.h"
#include "translate/batch.h"
#include "translate/buckets.h"

namespace ng::test {

inline Model tiny_model(const std::string& activation = "relu", int64_t ranks = 1) {
  Model model;
  model.vocabulary = 1111;
  model.eos = {2};
  model.build = [activation, ranks](std::string_view phase, const Sizes& sizes) {
    return build_m2m100(tiny_config(activation, ranks), phase, sizes);
  };
  return model;
}

inline std::map<std::string, Tensor> prepared(const Graph& prepare) {
  const auto leaves = weights_of(prepare);
  Bindings bindings;
  bindings.weight = [&](const std::string& name) { return leaves.at(name); };
  return interpret(prepare, bindings);
}

// Every module that options ask for, with their weights and one device's states.
struct StaticTarget {
  virtual ~StaticTarget() = default;
  virtual std::unique_ptr<Executable> load(const std::string& module) {
    return interpret_module(graphs.at(module), source(), nullptr, states);
  }
  std::unique_ptr<Executable> load_any(const ModuleSegment& module) {
    if (!module.cpu) return load(module.plan.name);
    return cpu->load(print(module.split.phase), source());
  }
  WeightSource source() {
    return [this](const std::string& name) {
      return weights.at(weights.contains(name) ? name : shared_name(name));
    };
  }

  StaticSizes sizes;
  bool logits;
  std::vector<ModuleSegment> modules;
  std::map<std::string, Graph> graphs;  // the device's
  std::unique_ptr<Device> cpu = open_cpu({1});
  HostStates host_states;
  std::map<std::string, Tensor> weights;
  HeldStates states;
  Executions executions;
  BeamRegions regions;

  explicit StaticTarget(const StaticOptions& options, const std::string& activation = "relu",
                        const std::string& target = "pjrt")
      : sizes(static_sizes(tiny_model(), options)),
        logits(options.with_logits),
        modules(segment_modules(tiny_model(activation, options.ranks), options, {target})) {
    Graph prepare("prepare");
    for (const ModuleSegment& module : modules) {
      if (!module.cpu) graphs.emplace(module.plan.name, module.split.phase);
      merge_prepare(prepare, module.split.prepare);
    }
    weights = prepared(prepare);
  }
  StaticPhases phases() {
    return {1111, 1, sizes, logits, [this](const std::string& phase) {
              std::vector<Bucket> buckets;
              for (const ModuleSegment& module : modules) {
                const PlannedModule& plan = module.plan;
                if (plan.phase != phase) continue;
                if (buckets.empty() || buckets.back().name != module.part_of) {
                  buckets.push_back({module.part_of, plan.sentences, plan.rows, {}});
                }
                buckets.back().segments.push_back({plan.name,
                                                   [this, &module] { return load_any(module); },
                                                   module.cpu ? &host_states : nullptr});
              }
              return bucketed(phase, std::move(buckets), sizes, executions, regions);
            }};
  }
};

// The same as pseudo-NEFFs, run by the emulated libnrt.
struct NeuronTarget : StaticTarget {
  std::map<std::string, std::string> hlo, neffs;
  std::unique_ptr<Device> device;

  explicit NeuronTarget(const StaticOptions& options, const std::string& activation = "relu")
      : StaticTarget(options, activation, "inf2") {
    for (const auto& [name, graph] : graphs) {
      hlo[name] = emit_hlo(graph, HloDialect::neuron);
      neffs[name] = pseudo_neff(hlo[name], name, *parse_neuron_version("2.27.0.0"), 1);
    }
    DeviceOptions open;
    open.library = NG_EMULATED_NRT;
    open.emulated = true;
    open.ranks = static_cast<int>(options.ranks);
    open.programs = [this](const std::string& name) {
      return std::as_bytes(std::span(neffs.at(name).data(), neffs.at(name).size()));
    };
    device = open_neuron(find_neuron_target("inf2"), open);
  }
  std::unique_ptr<Executable> load(const std::string& module) override {
    return device->load(hlo.at(module), source());
  }
};

// The packed phases on the CPU.
struct PackedTarget {
  std::map<std::string, std::string> texts;
  std::map<std::string, Tensor> weights;
  std::unique_ptr<Device> device = open_cpu({1});

  explicit PackedTarget(const std::string& activation = "relu", int64_t ranks = 1) {
    Graph prepare("prepare");
    for (const std::string_view phase : kPhases) {
      const Split split = lower(
          tiny_model(activation, ranks).build(phase, {4096, 4096, 512, 65536, 8192, 1111}), {});
      texts[std::string(phase)] = print(split.phase);
      merge_prepare(prepare, split.prepare);
    }
    weights = prepared(prepare);
  }
  Phases phases() const {
    return {1111, 1, [this](const std::string& phase) { return texts.at(phase); },
            [this](const std::string& name) { return weights.at(name); }};
  }
};

struct Limits {
  int most_source, most_beams, most_length;
};

inline Job random_job(std::mt19937_64& random, const Limits& limits) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<int32_t> source(static_cast<size_t>(pick(1, limits.most_source)));
  for (int32_t& id : source) id = pick(0, 1110);
  GenerationOptions options;
  options.num_beams = pick(1, limits.most_beams);
  options.max_length = pick(3, limits.most_length);
  options.eos_token_id = {2};
  options.length_penalty = pick(0, 20) / 10.0;
  if (pick(0, 3) == 0) options.repetition_penalty = 1.3;
  if (pick(0, 3) == 0) options.repetition_penalty = 0.8;
  if (pick(0, 1) == 0) options.forced_bos_token_id = pick(3, 1110);
  std::vector<int32_t> prompt = {2};
  for (int more = pick(0, 3) == 0 ? pick(1, 6) : 0; more > 0; --more)
    prompt.push_back(pick(3, 1110));
  options.max_length = std::max<int>(options.max_length, static_cast<int>(prompt.size()) + 2);
  std::vector<uint8_t> mask;
  if (pick(0, 3) == 0) {
    for (size_t i = 0; i < source.size(); ++i) mask.push_back(i == 0 || pick(0, 2) > 0 ? 1 : 0);
  }
  return {source, mask, BeamSearch(options, prompt, 1111), ""};
}

inline std::string tokens_of(const Job& job) {
  if (!job.error.empty()) return job.error;
  std::string text;
  for (const Hypothesis& found : job.search.results()) {
    text += fmt::format("{};", fmt::join(found.ids, ","));
  }
  return text;
}

template <class Target = StaticTarget>
void expect_the_packed_tokens(const StaticOptions& options, int jobs, int sentences,
                              const std::string& activation = "relu") {
  const PackedTarget packed(activation, options.ranks);
  Target target(checked(options), activation);
  std::mt19937_64 random(static_cast<uint64_t>(jobs * 7 + sentences));
  const Limits limits = {static_cast<int>(target.sizes.source), static_cast<int>(options.beams),
                         static_cast<int>(options.target_length)};
  std::vector<Job> expected;
  for (int i = 0; i < jobs; ++i) expected.push_back(random_job(random, limits));
  std::vector<Job> actual = expected;
  Session reference(packed.phases(), *packed.device);
  run_jobs(reference, expected, {});
  Session session(target.phases());
  run_jobs(session, actual, {sentences});
  for (int i = 0; i < jobs; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_EQ(tokens_of(expected[at]), tokens_of(actual[at])) << "job " << i;
  }
}

inline StaticOptions small_options(bool reorder = false) {
  StaticOptions options;
  options.reorder = reorder;
  options.batches = {1, 3};
  options.beams = 3;
  options.source_lengths = {4, 9};
  options.target_length = 12;
  options.with_logits = true;
  return options;
}

}  // namespace ng::test
