// Do ranks that each run their part of a module choose the tokens that one device chooses?
#include <gmock/gmock.h>

#include "backends/neuron/nrt_status.h"
#include "base/refusal_for_test.h"
#include "static_target_for_test.h"

namespace ng {
namespace {

using test::expect_the_packed_tokens;
using test::NeuronTarget;
using test::small_options;
using test::StaticTarget;
using testing::AllOf;
using testing::HasSubstr;

StaticOptions options_of(int64_t ranks, bool reorder = false) {
  StaticOptions options = small_options(reorder);
  options.ranks = ranks;
  return options;
}

TEST(Ranks, ChooseThePackedTokens) {
  expect_the_packed_tokens(options_of(2), 12, 0);
  expect_the_packed_tokens(options_of(4), 9, 0);
  expect_the_packed_tokens(options_of(2, true), 8, 0);
}

TEST(Ranks, GiveTheHostTheirScoresToChooseFrom) {
  StaticOptions options = options_of(4);
  options.device_candidates = false;
  expect_the_packed_tokens(options, 6, 0);
}

TEST(Ranks, OfNeuronMeetInEveryRunAndChooseThePackedTokens) {
  const Environment cores("EMULATED_NRT_CORES", "4");
  const EmulatedNrt nrt;
  expect_the_packed_tokens<NeuronTarget>(options_of(2), 6, 0);
  expect_the_packed_tokens<NeuronTarget>(options_of(4, true), 5, 0);
  EXPECT_EQ(nrt.live() + nrt.misuse(), 0U);
}

// What a rank holds of a step's weights and caches.
TEST(Ranks, KeepAPartOfTheHeadsTheFeedForwardAndTheVocabulary) {
  const StaticTarget whole(checked(options_of(1))), parts(checked(options_of(2)));
  const Graph& decode = parts.graphs.at("decode-b3-s9-t12-r0");
  EXPECT_EQ(ranks_of(decode), 2);
  EXPECT_EQ(decode.type(*decode.find_input("keys.0")).size(1), 12);
  EXPECT_EQ(parts.weights.at("model.shared.weight.rows.r1").type.size(0), 560);
  EXPECT_EQ(parts.weights.at("model.decoder.layers.0.fc1.weight.rows.transposed.r0").type.size(1),
            10);
  EXPECT_TRUE(parts.weights.contains("model.decoder.layer_norm.weight")) << "which all share";
  EXPECT_EQ(std::ranges::count(decode.nodes(), Op::all_reduce, &Node::op), 1 + 3 * 3);
}

TEST(Ranks, ThatCannotShareAModelAreRefusedWithBothNumbers) {
  const auto refused = [](int64_t ranks, const std::string& activation) {
    return refusal([&] {
      StaticOptions options = checked(options_of(ranks));
      segment_modules(test::tiny_model(activation, 2), options, {"inf2"});
    });
  };
  EXPECT_THAT(refused(3, "relu"), HasSubstr("--tp 3: does not divide the 4 attention heads"));
  EXPECT_THAT(refused(64, "relu"), HasSubstr("--tp 64: does not divide the 4 attention heads"));
  EXPECT_THAT(refused(65, "relu"), HasSubstr("--tp 65: from 1 to 64"));
  EXPECT_THAT(refused(2, "gelu"), HasSubstr("would be cut (there is no opcode erf"));
}

// What an answer of the runtime's, planted where two ranks run, makes of a request: its error.
std::string error_of(const std::string& fault) {
  const Environment planted("EMULATED_NRT", fault);
  try {
    NeuronTarget target(checked(options_of(2)));
    Session session(target.phases());
    std::mt19937_64 random(5);
    std::vector<Job> jobs = {test::random_job(random, {9, 3, 12})};
    run_jobs(session, jobs, {});
    return jobs[0].error;
  } catch (const Error& thrown) {
    EXPECT_EQ(thrown.kind(), Error::Kind::Device);
    return thrown.what();
  }
}

// One call of each function that ranks meet in: the request ends with an error, nothing is left.
TEST(Ranks, ARankThatFailsEndsTheRunOfAll) {
  const Environment cores("EMULATED_NRT_CORES", "2"), patience("NEURON_RT_EXEC_TIMEOUT", "1");
  const EmulatedNrt nrt;
  for (const std::string fault :
       {"nrt_execute@2=1", "nrt_execute@4=1004", "nrt_load_collectives@2=4",
        "nrt_tensor_write@90=1", "nrt_tensor_read@3=1", "nrt_init@1=1"}) {
    nrt.reset();
    EXPECT_THAT(error_of(fault), HasSubstr("nrt_")) << fault;
    EXPECT_EQ(nrt.live() + nrt.misuse(), 0U) << fault;
  }
}

// The function that only ranks call, as NeuronFaults asks of those that every device calls.
TEST(Ranks, EveryStatusOfLoadCollectivesIsRetriedOrSaidAndNothingLeaks) {
  const Environment cores("EMULATED_NRT_CORES", "2"), patience("NEURON_RT_EXEC_TIMEOUT", "1");
  const EmulatedNrt library;
  for (const nrt::StatusRow& row : nrt::statuses()) {
    for (const int call : {1, 2}) {  // the first, and another rank's
      const std::string fault = fmt::format("nrt_load_collectives@{}={}", call, row.status);
      SCOPED_TRACE(fault);
      library.reset();
      const std::string error = error_of(fault);
      if (row.policy == nrt::Policy::retry) {
        EXPECT_EQ(error, "");
      } else {
        EXPECT_THAT(error, AllOf(HasSubstr("nrt_load_collectives of "),
                                 HasSubstr(fmt::format(" gave {} ", row.name))));
      }
      EXPECT_EQ(library.live() + library.misuse(), 0U);
    }
  }
}

}  // namespace
}  // namespace ng
