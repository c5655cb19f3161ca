// Every module of a tiny model for a static target, for sessions over it in tests.
#pragma once

#include <test_paths.h>

#include "backends/neuron/emulated_nrt_for_test.h"
#include "backends/neuron/neuron.h"
#include "backends/reference/reference.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "compile/static_modules.h"
#include "emulated/pseudo_neff.h"
#include "tiny_model.h"
#include "translate/session.h"

namespace ng::test {

inline Model tiny_model() {
  Model model;
  model.vocabulary = 1111;
  model.eos = {2};
  model.build = [](std::string_view phase, const Sizes& sizes) {
    return build_m2m100(tiny_config(), phase, sizes);
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
  WeightSource source() {
    return [this](const std::string& name) { return weights.at(name); };
  }

  StaticSizes sizes;
  bool logits;
  std::vector<PlannedModule> modules;
  std::map<std::string, Graph> graphs;
  std::map<std::string, Tensor> weights;
  HeldStates states;
  Executions executions;
  BeamRegions regions;

  explicit StaticTarget(const StaticOptions& options)
      : sizes(static_sizes(tiny_model(), options)),
        logits(options.with_logits),
        modules(plan_modules(options)) {
    Graph prepare("prepare");
    for (const PlannedModule& module : modules) {
      const Split split = lower_module(tiny_model(), module, options);
      graphs.emplace(module.name, split.phase);
      merge_prepare(prepare, split.prepare);
    }
    weights = prepared(prepare);
  }
  StaticPhases phases() {
    return {1111, 1, sizes, logits, [this](const std::string& phase) {
              std::vector<Bucket> buckets;
              for (const PlannedModule& module : modules) {
                if (module.phase != phase) continue;
                buckets.push_back({module.name, module.sentences, module.rows,
                                   [this, name = module.name] { return load(name); }});
              }
              return bucketed(phase, std::move(buckets), sizes, executions, regions);
            }};
  }
};

// The same as pseudo-NEFFs, run by the emulated libnrt.
struct NeuronTarget : StaticTarget {
  std::map<std::string, std::string> hlo, neffs;
  std::unique_ptr<Device> device;

  explicit NeuronTarget(const StaticOptions& options) : StaticTarget(options) {
    for (const auto& [name, graph] : graphs) {
      hlo[name] = emit_hlo(graph, HloDialect::neuron);
      neffs[name] = pseudo_neff(hlo[name], name, *parse_neuron_version("2.27.0.0"), 1);
    }
    DeviceOptions open;
    open.library = NG_EMULATED_NRT;
    open.emulated = true;
    open.programs = [this](const std::string& name) {
      return std::as_bytes(std::span(neffs.at(name).data(), neffs.at(name).size()));
    };
    device = open_neuron(find_neuron_target("inf2"), open);
  }
  std::unique_ptr<Executable> load(const std::string& module) override {
    return device->load(hlo.at(module), source());
  }
};

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
