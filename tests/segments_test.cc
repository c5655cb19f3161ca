// Does a session over modules that run partly on the CPU choose what the packed phases choose?
#include <gmock/gmock.h>

#include "base/refusal_for_test.h"
#include "static_target_for_test.h"

namespace ng {
namespace {

using test::expect_the_packed_tokens;
using test::NeuronTarget;
using test::small_options;
using test::StaticTarget;
using testing::HasSubstr;

constexpr const char* kForced[] = {"linear", "attend",     "layer_norm", "project_top_k",
                                   "embed",  "write_rows", "slice",      "log_sum_exp"};

TEST(Segmented, WithOpsOnTheCpuTheyChooseThePackedTokens) {
  for (const char* op : kForced) {
    SCOPED_TRACE(op);
    StaticOptions options = small_options();
    options.cpu_ops = {op};
    expect_the_packed_tokens(options, 6, 0);
  }
  StaticOptions options = small_options();
  options.cpu_ops = {"attend", "embed", "project_top_k"};
  expect_the_packed_tokens<NeuronTarget>(options, 5, 0);
  options.device_candidates = false;
  options.cpu_ops = {"linear", "slice"};
  expect_the_packed_tokens<NeuronTarget>(options, 5, 0);
}

TEST(Segmented, WhatNeuronDoesNotTakeRunsOnTheCpuAndChoosesThePackedTokens) {
  const StaticTarget target(checked(small_options()), "gelu", "inf2");
  for (const ModuleSegment& module : target.modules) {
    if (!module.cpu) continue;
    EXPECT_EQ(module.ops.size(), 1U);
    EXPECT_EQ(module.ops.at("linear"), 1);  // with its gelu
    EXPECT_THAT(*module.reasons.begin(), HasSubstr("erf"));
  }
  EXPECT_GT(target.modules.size(), target.graphs.size());
  expect_the_packed_tokens<NeuronTarget>(small_options(), 6, 0, "gelu");
}

TEST(Segmented, WithReorderedBeamsWhatUsesNoStateRunsOnTheCpuAndTheRestIsRefusedByName) {
  StaticOptions options = small_options(true);
  for (const char* op : {"linear", "layer_norm", "project_top_k", "embed"}) {
    SCOPED_TRACE(op);
    options.cpu_ops = {op};
    expect_the_packed_tokens(options, 6, 0);
  }
  expect_the_packed_tokens<NeuronTarget>(options, 5, 0);
  expect_the_packed_tokens<NeuronTarget>(small_options(true), 5, 0, "gelu");
  for (const char* op : {"attend", "write_rows"}) {
    options.cpu_ops = {op};
    EXPECT_THAT(refusal([&] { StaticTarget{checked(options)}; }),
                HasSubstr("--beam-caches reorder is not for modules that --cpu-ops cuts where"));
  }
}

TEST(Segmented, OfSeveralTargetsWhatOneDoesNotTakeIsCutForAll) {
  const auto names = [](const std::set<std::string>& targets) {
    std::vector<std::string> found;
    const auto modules =
        segment_modules(test::tiny_model("gelu"), checked(small_options()), targets);
    for (const ModuleSegment& module : modules) found.push_back(module.plan.name);
    return found;
  };
  EXPECT_EQ(names({"inf2", "pjrt"}), names({"inf2"}));
  EXPECT_NE(names({"pjrt"}), names({"inf2"}));
}

TEST(Segmented, EverySegmentIsCounted) {
  StaticOptions options = small_options();
  options.cpu_ops = {"project_top_k"};
  StaticTarget target(checked(options));
  Session session(target.phases());
  GenerationOptions generation;
  generation.max_length = 9;
  std::vector<Job> jobs = {{{5, 6}, {}, BeamSearch(generation, {2}, 1111), ""}};
  run_jobs(session, jobs, {});
  EXPECT_GT(target.executions.at("decode-b1-s9-t12.1"), 0U);
  EXPECT_EQ(target.executions.at("decode-b1-s9-t12.1"), target.executions.at("decode-b1-s9-t12.2"));
  EXPECT_EQ(target.executions.at("encode-b1-s4-t12"), 1U);
}

}  // namespace
}  // namespace ng
