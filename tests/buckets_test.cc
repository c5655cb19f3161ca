// Does a session over a static target's modules choose what the packed phases choose?
#include "translate/buckets.h"

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <test_paths.h>

#include "backends/cpu/cpu.h"
#include "backends/neuron/emulated_nrt_for_test.h"
#include "backends/neuron/neuron.h"
#include "backends/reference/reference.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "base/refusal_for_test.h"
#include "compile/static_modules.h"
#include "emulated/pseudo_neff.h"
#include "ir/text.h"
#include "tiny_model.h"
#include "translate/batch.h"
#include "translate/forward.h"

namespace ng {
namespace {

using testing::HasSubstr;

Model tiny_model() {
  Model model;
  model.vocabulary = 1111;
  model.eos = {2};
  model.build = [](std::string_view phase, const Sizes& sizes) {
    return build_m2m100(test::tiny_config(), phase, sizes);
  };
  return model;
}

std::map<std::string, Tensor> prepared(const Graph& prepare) {
  const auto leaves = test::weights_of(prepare);
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
              return bucketed(phase, std::move(buckets), sizes, executions);
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

// The packed phases on the CPU.
struct PackedTarget {
  std::map<std::string, std::string> texts;
  std::map<std::string, Tensor> weights;
  std::unique_ptr<Device> device = open_cpu({1});

  PackedTarget() {
    Graph prepare("prepare");
    for (const std::string_view phase : kPhases) {
      const Split split =
          lower(build_m2m100(test::tiny_config(), phase, {4096, 4096, 512, 65536, 8192, 1111}), {});
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

Job random_job(std::mt19937_64& random, const Limits& limits) {
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

std::string tokens_of(const Job& job) {
  if (!job.error.empty()) return job.error;
  std::string text;
  for (const Hypothesis& found : job.search.results()) {
    text += fmt::format("{};", fmt::join(found.ids, ","));
  }
  return text;
}

template <class Target = StaticTarget>
void expect_the_packed_tokens(const StaticOptions& options, int jobs, int sentences) {
  static const PackedTarget packed;
  Target target(checked(options));
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

StaticOptions small_options() {
  StaticOptions options;
  options.batches = {1, 3};
  options.beams = 3;
  options.source_lengths = {4, 9};
  options.target_length = 12;
  options.with_logits = true;
  return options;
}

TEST(Buckets, EveryModuleRunsAndChoosesThePackedTokens) {
  expect_the_packed_tokens(small_options(), 12, 0);
}

TEST(Buckets, NeuronsModulesChooseThePackedTokens) {
  expect_the_packed_tokens<NeuronTarget>(small_options(), 8, 0);
}

TEST(Buckets, AfterARunThatFailedTheSameSessionChoosesTheSameTokens) {
  const EmulatedNrt nrt;
  {
    NeuronTarget target(checked(small_options()));
    Session session(target.phases());
    std::mt19937_64 random(5);
    std::vector<Job> jobs;
    for (int i = 0; i < 4; ++i) jobs.push_back(random_job(random, {9, 3, 12}));
    std::vector<Job> expected = jobs;
    run_jobs(session, expected, {});
    int failed = 0;
    for (bool ended = false; !ended && failed < 100;) {
      nrt.reset();
      std::vector<Job> first = jobs, again = jobs;
      {
        const Environment fault("EMULATED_NRT", fmt::format("nrt_execute@{}=1004", failed + 1));
        try {
          run_jobs(session, first, {});
          ended = true;
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), Error::Kind::Device) << error.what();
          ++failed;
        }
      }
      run_jobs(session, again, {});
      for (size_t i = 0; i < jobs.size(); ++i)
        EXPECT_EQ(tokens_of(again[i]), tokens_of(expected[i]));
    }
    EXPECT_GT(failed, 5);
    EXPECT_LT(failed, 100);
  }
  EXPECT_EQ(nrt.live() + nrt.misuse(), 0U);
}

TEST(Buckets, OneSentenceAtATimeTakesTheSmallModules) {
  expect_the_packed_tokens(small_options(), 4, 1);
}

TEST(Buckets, TheHostFindsTheBestInWholeRows) {
  StaticOptions options = small_options();
  options.device_candidates = false;
  expect_the_packed_tokens(options, 6, 0);
}

std::string error_of_job(Session& session, std::vector<int32_t> source,
                         const GenerationOptions& options) {
  std::vector<Job> jobs = {{std::move(source), {}, BeamSearch(options, {2}, 1111), ""}};
  run_jobs(session, jobs, {});
  return jobs[0].error;
}

TEST(Buckets, WhatTheModulesAreTooSmallForIsAnErrorOfTheJobThatNamesBothNumbers) {
  StaticOptions small = small_options();
  small.with_logits = false;
  StaticTarget target(checked(small));
  Session session(target.phases());
  GenerationOptions options;
  options.max_length = 12;
  options.eos_token_id = {2};
  EXPECT_EQ(error_of_job(session, std::vector<int32_t>(9, 5), options), "");
  EXPECT_THAT(error_of_job(session, std::vector<int32_t>(10, 5), options),
              HasSubstr("10 source ids, the bundle's modules take 9"));
  options.num_beams = 4;
  EXPECT_THAT(error_of_job(session, {5}, options),
              HasSubstr("num_beams 4, the bundle's modules take 3"));
  options.num_beams = 3;
  options.max_length = 13;
  EXPECT_THAT(error_of_job(session, {5}, options),
              HasSubstr("max_length 13, the bundle's modules take 12"));
  options.max_length = 12;
  options.repetition_penalty = 0.8;
  EXPECT_THAT(error_of_job(session, {5}, options), HasSubstr("--with-logits"));
}

TEST(Buckets, ForwardGivesThePackedStatesAndScoresOfMoreRowsThanSlots) {
  const PackedTarget packed;
  StaticTarget target(checked(small_options()));
  Session reference(packed.phases(), *packed.device), session(target.phases());
  ForwardInputs in = {5, 7, 9, {}, {}, {}};
  std::mt19937 random(4);
  for (int64_t i = 0; i < in.batch * in.source; ++i) {
    in.input_ids.push_back(static_cast<int32_t>(random() % 1111));
    in.attention_mask.push_back(i % in.source == 0 || random() % 4 > 0 ? 1 : 0);
  }
  for (int64_t i = 0; i < in.batch * in.target; ++i) {
    in.decoder_input_ids.push_back(static_cast<int32_t>(random() % 1111));
  }
  std::vector<float> values[2];
  Session* sessions[] = {&reference, &session};
  for (int i = 0; i < 2; ++i) {
    std::vector<float>& to = values[i];
    const auto add = [&](std::span<const float> more) {
      to.insert(to.end(), more.begin(), more.end());
    };
    forward(*sessions[i], in,
            {[&](const Tensor& hidden) {
               add({reinterpret_cast<const float*>(hidden.data.data()),
                    hidden.data.size() / sizeof(float)});
             },
             add});
  }
  ASSERT_EQ(values[0].size(), values[1].size());
  for (size_t i = 0; i < values[0].size(); ++i) ASSERT_NEAR(values[0][i], values[1][i], 2e-5) << i;
}

TEST(Buckets, ModulesThatDoNotFitTheirBundleAreRefused) {
  StaticTarget target(checked(small_options()));
  StaticPhases phases = target.phases();
  target.sizes.candidates += 1;
  Session session(std::move(phases));
  GenerationOptions options;
  options.max_length = 5;
  EXPECT_THAT(refusal([&] { error_of_job(session, {5}, options); }), HasSubstr("does not give"));
}

TEST(Buckets, GreedyModulesTakePromptsAheadOfTheStepThatChooses) {
  StaticOptions options = small_options();
  options.beams = 1;
  options.batches = {2};
  expect_the_packed_tokens(options, 5, 0);
}

// A job whose prompt is longer than a step's rows.
Job job_with_prompt(const GenerationOptions& options) {
  return {{5, 6, 7}, {}, BeamSearch(options, {2, 11, 12, 13, 14, 15}, 1111), ""};
}

TEST(Buckets, LongPromptsOfSeveralSentencesAreOneRun) {
  StaticTarget target(checked(small_options()));
  GenerationOptions options;
  options.max_length = 9;
  std::vector<Job> jobs(3, job_with_prompt(options));
  Session session(target.phases());
  run_jobs(session, jobs, {});
  EXPECT_EQ(target.executions.at("prefill-b3-s9-t12"), 1U);
  EXPECT_FALSE(target.executions.contains("prefill-b1-s9-t12"));
}

TEST(Buckets, WithoutWholeRowsWhatNeedsThemIsRefusedWithBothNumbers) {
  StaticOptions options = small_options();
  options.with_logits = false;
  StaticTarget target(checked(options));
  GenerationOptions raising, banning;
  raising.max_length = banning.max_length = 9;
  raising.repetition_penalty = 0.8;
  for (int32_t id = 100; id < 140; ++id) banning.suppress_tokens.push_back(id);
  GenerationOptions plain;
  plain.max_length = 9;
  std::vector<Job> jobs = {job_with_prompt(raising), job_with_prompt(banning),
                           job_with_prompt(plain)};
  Session session(target.phases());
  run_jobs(session, jobs, {});
  EXPECT_THAT(jobs[0].error, HasSubstr("the scores of all 1111 ids"));
  EXPECT_THAT(jobs[1].error, testing::ContainsRegex("the best 4[0-9] ids of a step"));
  for (const size_t refused : {0, 1}) {
    EXPECT_THAT(jobs[refused].error, HasSubstr("modules give the best 20: compile with"));
  }
  EXPECT_EQ(jobs[2].error, "");
}

TEST(Buckets, ForwardWithoutWholeRowsIsRefusedByName) {
  StaticOptions options = small_options();
  options.with_logits = false;
  StaticTarget target(checked(options));
  Session session(target.phases());
  const ForwardInputs inputs{1, 2, 1, {5, 6}, {}, {2}};
  const ForwardOutputs unread = {[](const Tensor&) {}, [](std::span<const float>) {}};
  EXPECT_THAT(refusal([&] { forward(session, inputs, unread); }),
              HasSubstr("compile the checkpoint with --with-logits"));
}

}  // namespace
}  // namespace ng
