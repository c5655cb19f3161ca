// Do the edits equal transformers' processors, one by one?
#include "translate/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/shared_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Ids = std::vector<int32_t>;

RowEdits edits_of(const GenerationOptions& options, const Ids& ids) {
  RowEdits edits;
  Processors(options).find_edits(ids, edits);
  return edits;
}

TEST(Processors, PenaliseEveryIdOnceTowardsLowerScores) {
  GenerationOptions options;
  options.repetition_penalty = 2;
  const RowEdits edits = edits_of(options, {2, 7, 7, 3});
  EXPECT_THAT(edits.penalised, ElementsAre(2, 3, 7));
  const Processors processors(options);
  EXPECT_EQ(processors.edited_count(edits), 3U);
  EXPECT_EQ(processors.edited(-1.5F, 7, edits), -3);
  EXPECT_EQ(processors.edited(1.5F, 7, edits), 0.75F);
  EXPECT_EQ(processors.edited(0, 7, edits), 0);
  EXPECT_EQ(processors.edited(1.5F, 8, edits), 1.5F);
  EXPECT_FALSE(processors.may_raise());
}

TEST(Processors, LookForAWordOnlyOnceAsManyIdsAsItHasAreThere) {
  GenerationOptions options;
  options.bad_words_ids = {{2, 5}, {7, 8, 9}, {4}};
  EXPECT_THAT(edits_of(options, {2}).banned, IsEmpty());
  EXPECT_THAT(edits_of(options, {2, 2}).banned, ElementsAre(5));
  EXPECT_THAT(edits_of(options, {7, 8}).banned, IsEmpty());
  EXPECT_THAT(edits_of(options, {2, 7, 8}).banned, ElementsAre(9));
  EXPECT_EQ(Processors(options).edited(1, 4, {}), -INFINITY);
}

TEST(Processors, LeaveASingleEndOutOfTheBadWords) {
  GenerationOptions options;
  options.eos_token_id = {2, 9};
  options.bad_words_ids = {{9}, {5, 9}};
  EXPECT_EQ(Processors(options).edited(1, 9, {}), 1);
  EXPECT_THAT(edits_of(options, {5, 5}).banned, ElementsAre(9));
  options.bad_words_ids = {{9}, {2}};  // nothing is left, and nothing is banned
  EXPECT_THAT(edits_of(options, {5, 5}).banned, ElementsAre());
}

TEST(Processors, BanEveryEndBelowTheMinimum) {
  GenerationOptions options;
  options.eos_token_id = {9, 2, 9};
  options.min_length = 3;
  EXPECT_THAT(edits_of(options, {5, 5}).banned, ElementsAre(2, 9));
  EXPECT_THAT(edits_of(options, {5, 5, 5}).banned, IsEmpty());
}

TEST(Processors, ForceTheFirstIdAndTheLastAndSuppressAfterwards) {
  GenerationOptions options;
  options.forced_bos_token_id = 7;
  options.forced_eos_token_id = {9, 5, 9};
  options.max_length = 5;
  EXPECT_THAT(Processors(options).forced(1), ElementsAre(7));
  EXPECT_THAT(Processors(options).forced(2), IsEmpty());
  EXPECT_THAT(Processors(options).forced(4), ElementsAre(5, 9));
  options.bad_words_ids = {{7}, {9}};  // they act before an id is forced
  options.suppress_tokens = {5};       // they act after it
  EXPECT_THAT(Processors(options).forced(1), ElementsAre(7));
  EXPECT_THAT(Processors(options).forced(4), ElementsAre(9));
  options.max_length = 2;
  EXPECT_THAT(Processors(options).forced(1), ElementsAre(9));
  options.suppress_tokens = {5, 9};
  EXPECT_THROW(Processors(options).forced(1), Error);
}

TEST(Processors, CountDistinctIds) {
  GenerationOptions options;
  options.repetition_penalty = 1.5;
  options.no_repeat_ngram_size = 1;
  options.suppress_tokens = {7, 3, 3};
  options.bad_words_ids = {{4}, {7}};
  const RowEdits edits = edits_of(options, {2, 7, 8, 2});
  EXPECT_THAT(edits.banned, ElementsAre(2, 8));
  EXPECT_THAT(edits.penalised, IsEmpty());
  EXPECT_EQ(Processors(options).edited_count(edits), 5U);
}

// The vectors that transformers' own tests hold.
class ProcessorVectors : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = shared_file("data/vectors/hf_vectors.json");
    if (!file) GTEST_SKIP() << "no vectors";
    vectors_ = parse_json(read_file(*file, 16 << 20), "vectors")["logits_processors"];
  }
  Json vectors_;
};

TEST_F(ProcessorVectors, NoRepeatNgram) {
  for (const Json& vector : vectors_["no_repeat_ngram"]) {
    GenerationOptions options;
    options.no_repeat_ngram_size = vector["n"];
    for (size_t i = 0; i < vector["banned"].size(); ++i) {
      EXPECT_EQ(edits_of(options, vector["input_ids"][i].get<Ids>()).banned,
                vector["banned"][i].get<Ids>());
    }
  }
}

TEST_F(ProcessorVectors, RepetitionPenalty) {
  const Json& vector = vectors_["repetition_penalty"];
  GenerationOptions options;
  options.repetition_penalty = vector["penalty"];
  const Processors processors(options);
  const auto edited = [&](int row, float score, int32_t id) {
    return processors.edited(score, id, edits_of(options, vector["input_ids"][row].get<Ids>()));
  };
  const Json& expect = vector["expect"];
  EXPECT_FLOAT_EQ(edited(0, -0.1F, 0), expect["[0][0]"].get<float>());
  EXPECT_FLOAT_EQ(edited(0, 0.1F, 1), expect["[0][1]"].get<float>());
  EXPECT_FLOAT_EQ(edited(1, 0.1F, 0), expect["[1][0]"].get<float>());
  EXPECT_FLOAT_EQ(edited(1, 0.4F, 5), expect["[1][5]"].get<float>());
}

TEST_F(ProcessorVectors, MinimumLengths) {
  GenerationOptions options;
  options.eos_token_id = {0};
  options.max_length = 100;
  options.min_length = vectors_["min_length"]["min_length"];
  EXPECT_THAT(edits_of(options, Ids(5, 1)).banned, ElementsAre(0));
  EXPECT_THAT(edits_of(options, Ids(15, 1)).banned, IsEmpty());
  const Json& vector = vectors_["min_new_tokens"];
  options.min_new_tokens = vector["min_new"].get<int>();
  resolve(options, vector["prompt_len"]);
  for (const size_t length : vector["eos_blocked_at_lengths"].get<std::vector<size_t>>()) {
    EXPECT_THAT(edits_of(options, Ids(length, 1)).banned, ElementsAre(0)) << length;
  }
  for (const size_t length : vector["free_at"].get<std::vector<size_t>>()) {
    EXPECT_THAT(edits_of(options, Ids(length, 1)).banned, IsEmpty()) << length;
  }
}

}  // namespace
}  // namespace ng
