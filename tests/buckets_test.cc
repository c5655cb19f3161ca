// Does a session over a static target's modules choose what the packed phases choose?
#include "translate/buckets.h"

#include <gmock/gmock.h>

#include "base/refusal_for_test.h"
#include "static_target_for_test.h"
#include "translate/forward.h"

namespace ng {
namespace {

using test::expect_the_packed_tokens;
using test::NeuronTarget;
using test::PackedTarget;
using test::random_job;
using test::small_options;
using test::StaticTarget;
using test::tokens_of;
using testing::HasSubstr;

TEST(Buckets, EveryModuleRunsAndChoosesThePackedTokens) {
  expect_the_packed_tokens(small_options(), 12, 0);
}

TEST(Buckets, NeuronsModulesChooseThePackedTokens) {
  expect_the_packed_tokens<NeuronTarget>(small_options(), 8, 0);
}

TEST(Buckets, ReorderedBeamsChooseThePackedTokens) {
  expect_the_packed_tokens(small_options(true), 14, 0);
  expect_the_packed_tokens(small_options(true), 5, 1);
  expect_the_packed_tokens<NeuronTarget>(small_options(true), 9, 0);
}

TEST(Buckets, OneBeamsRegionTakesPromptsAheadOfTheStepThatChooses) {
  StaticOptions options = small_options(true);
  options.beams = 1;
  options.batches = {1, 2};
  options.device_candidates = false;
  expect_the_packed_tokens(options, 6, 0);
}

class AfterARunThatFailed : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Buckets, AfterARunThatFailed, testing::Bool());

TEST_P(AfterARunThatFailed, TheSameSessionChoosesTheSameTokens) {
  const EmulatedNrt nrt;
  {
    NeuronTarget target(checked(small_options(GetParam())));
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

class Forward : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Buckets, Forward, testing::Bool());

TEST_P(Forward, GivesThePackedStatesAndScoresOfMoreRowsThanSlots) {
  const PackedTarget packed;
  StaticTarget target(checked(small_options(GetParam())));
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

TEST(Buckets, WithoutWholeRowsWhatNeedsThemIsRefusedByNameWithBothNumbers) {
  StaticOptions options = small_options();
  options.with_logits = false;
  StaticTarget target(checked(options));
  GenerationOptions raising, banning, words;
  raising.max_length = banning.max_length = words.max_length = 9;
  raising.repetition_penalty = 0.8;
  for (int32_t id = 100; id < 140; ++id) words.bad_words_ids.push_back({id});
  words.no_repeat_ngram_size = 3;
  words.eos_token_id = {2, 3};
  for (int32_t id = 100; id < 140; ++id) banning.suppress_tokens.push_back(id);
  GenerationOptions plain;
  plain.max_length = 9;
  std::vector<Job> jobs = {job_with_prompt(raising), job_with_prompt(banning),
                           job_with_prompt(words), job_with_prompt(plain)};
  Session session(target.phases());
  run_jobs(session, jobs, {});
  EXPECT_THAT(jobs[0].error,
              HasSubstr("repetition_penalty: a step needs the scores of all 1111 ids"));
  EXPECT_THAT(jobs[1].error,
              testing::ContainsRegex("^suppress_tokens: a step needs the best 4[0-9] ids"));
  EXPECT_THAT(
      jobs[2].error,
      HasSubstr("no_repeat_ngram_size, bad_words_ids, eos_token_id: a step needs the best"));
  for (const size_t refused : {0, 1, 2}) {
    EXPECT_THAT(jobs[refused].error, HasSubstr("modules give the best 20: compile with"));
  }
  EXPECT_EQ(jobs[3].error, "");
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
