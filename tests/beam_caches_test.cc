// Do beams that are put in order read what their histories list?
#include <gmock/gmock.h>

#include <deque>
#include <random>

#include "static_target_for_test.h"

namespace ng {
namespace {

using test::StaticTarget, test::small_options;
using Histories = std::vector<std::vector<int32_t>>;

constexpr int kSlots = 3, kBeams = 3, kTarget = 12;

struct Sentence {
  Memory memory;
  Histories beams;
  std::vector<int32_t> owned;
};

// A session of each kind. They do the same.
class Both {
 public:
  explicit Both(uint64_t seed) : random_(seed), sentences_(kSlots) {
    for (Sentence& sentence : sentences_) begin(sentence);
  }

  // Sentences end and begin, some rest, some take a step; a prompt goes ahead.
  void round() {
    std::vector<DecodeRow> prompts, steps;
    kept_.clear();
    for (Sentence& sentence : sentences_) {
      if (pick(0, 3) == 0) continue;
      const bool full = !sentence.beams.empty() && sentence.beams[0].size() + 2 > kTarget;
      if (full || pick(0, 9) == 0) {
        end(sentence);
        begin(sentence);
      }
      if (sentence.beams.empty() && pick(0, 1) == 0) extend(sentence, pick(1, 5), prompts);
      extend(sentence, pick(1, 2), steps);
    }
    if (!prompts.empty()) step(prompts, Wanted::nothing);
    if (!steps.empty()) step(steps, pick(0, 2) == 0 ? Wanted::logits : Wanted::candidates);
  }

 private:
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  void begin(Sentence& sentence) {
    std::vector<int32_t> ids(static_cast<size_t>(pick(1, 9)));
    for (int32_t& id : ids) id = pick(3, 1110);
    const std::vector<Source> source = {{ids, {}}};
    sentence.memory = lists_.encode(source)[0];
    EXPECT_EQ(order_.encode(source)[0].start, sentence.memory.start);
  }
  void end(Sentence& sentence) {
    for (Session* session : {&lists_, &order_}) {
      for (const int32_t row : sentence.owned) session->release_cache_row(row);
      session->release(sentence.memory);
    }
    sentence = {};
  }
  // One beam begins, or some go on from those that there are; each `more` positions in this step.
  void extend(Sentence& sentence, int more, std::vector<DecodeRow>& rows) {
    Histories next;
    for (int beam = sentence.beams.empty() ? 1 : pick(1, kBeams); beam > 0; --beam) {
      next.emplace_back();
      if (!sentence.beams.empty()) {
        next.back() = sentence.beams[size_t(pick(0, int(sentence.beams.size()) - 1))];
      }
      for (int i = 0; i < more; ++i) {
        sentence.owned.push_back(lists_.new_cache_row());
        EXPECT_EQ(order_.new_cache_row(), sentence.owned.back());
        next.back().push_back(sentence.owned.back());
        kept_.push_back(next.back());
        const auto position = static_cast<int32_t>(next.back().size()) + 1;
        rows.push_back({pick(3, 1110), position, kept_.back(), sentence.memory});
      }
    }
    sentence.beams = std::move(next);
  }
  void step(const std::vector<DecodeRow>& rows, Wanted wanted) {
    StepResult expected, found;
    lists_.step(rows, wanted, 4, expected);
    order_.step(rows, wanted, 4, found);
    EXPECT_EQ(expected.scores, found.scores);
    EXPECT_EQ(expected.ids, found.ids);
    EXPECT_EQ(expected.log_sum_exp, found.log_sum_exp);
  }

  std::mt19937_64 random_;
  StaticTarget lists_target_{checked(small_options(false))};
  StaticTarget order_target_{checked(small_options(true))};
  Session lists_{lists_target_.phases()}, order_{order_target_.phases()};
  std::vector<Sentence> sentences_;
  std::deque<std::vector<int32_t>> kept_;  // the histories of a round
};

TEST(BeamCaches, RandomBeamsScoreTheSameInOrderAsByTheirHistories) {
  for (uint64_t seed = 0; seed < 3 && !testing::Test::HasFailure(); ++seed) {
    Both both(seed);
    for (int round = 0; round < 60 && !testing::Test::HasFailure(); ++round) both.round();
  }
}

TEST(BeamCaches, AHistoryThatNoRegionHoldsIsOurBug) {
  StaticTarget target(checked(small_options(true)));
  Session session(target.phases());
  const std::vector<int32_t> source = {5, 6}, history = {4, 5};
  const Memory memory = session.encode(std::vector<Source>{{source, {}}})[0];
  StepResult result;
  try {
    session.step(std::vector<DecodeRow>{{7, 3, history, memory}}, Wanted::candidates, 4, result);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Internal);
    EXPECT_THAT(error.what(), testing::HasSubstr("nothing holds the past"));
  }
}

}  // namespace
}  // namespace ng
