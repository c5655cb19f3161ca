#include "translate/bucket_columns.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/refusal_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Type f32(Shape shape) { return {DType::f32, std::move(shape)}; }

template <class T>
void fill(const Argument& argument, const std::vector<T>& values) {
  std::memcpy(argument.data, values.data(), values.size() * sizeof(T));
}

// Two rows of three candidates each.
struct Answer {
  std::vector<float> scores = std::vector<float>(6);
  std::vector<int32_t> ids = std::vector<int32_t>(6);
  Argument to_scores{f32({2, 3}), reinterpret_cast<std::byte*>(scores.data())};
  Argument to_ids{s32({2, 3}), reinterpret_cast<std::byte*>(ids.data())};
};

TEST(HostResults, CandidatesComeBestFirstAndAmongEqualsTheLowerIdFirst) {
  HostResults results({10, 1});
  fill<float>(results.argument({"scores", f32({2, 4})}), {1, 3, 3, 2, 7, 7, 7, 7});
  fill<int32_t>(results.argument({"ids", s32({2, 4})}), {4, 9, 5, 1, 8, 6, 7, 5});
  Answer answer;
  results.candidates_of_row({0, 1, 1}, answer.to_scores, answer.to_ids);
  results.candidates_of_row({1, 0, 1}, answer.to_scores, answer.to_ids);
  EXPECT_THAT(answer.scores, ElementsAre(7, 7, 7, 3, 3, 2));
  EXPECT_THAT(answer.ids, ElementsAre(5, 6, 7, 5, 9, 1));
}

TEST(HostResults, AnIdThatTheVocabularyLacksIsTheDevicesMistake) {
  HostResults results({10, 1});
  fill<float>(results.argument({"scores", f32({1, 3})}), {3, 2, 1});
  fill<int32_t>(results.argument({"ids", s32({1, 3})}), {4, 10, 5});
  Answer answer;
  try {
    results.candidates_of_row({0, 0, 1}, answer.to_scores, answer.to_ids);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Device);
  }
}

TEST(HostResults, WholeRowsGiveTheSameOrder) {
  HostResults results({5, 1});
  fill<float>(results.argument({"logits", f32({1, 5})}), {2, 4, 1, 4, 2});
  Answer answer;
  results.best_of_logits({0, 1, 1}, answer.to_scores, answer.to_ids);
  EXPECT_THAT(std::vector<int32_t>(answer.ids.begin() + 3, answer.ids.end()), ElementsAre(1, 3, 0));
}

// 20 ids: rank 0 has 15 of its 16 rows, rank 1 five.
TEST(HostResults, RanksGiveTheirPartsOfAVocabulary) {
  const VocabularyParts parts{20, 2};
  EXPECT_EQ(parts.rows(), 16);
  EXPECT_EQ(parts.held(1), 5);
  HostResults results(parts);
  const float lowest = std::numeric_limits<float>::lowest();
  fill<float>(results.argument({"scores", f32({4, 3})}),
              {1, 1, 1, 9, 4, 3, 0, 0, 0, 9, 8, lowest});  // [rank, row, candidate]
  fill<int32_t>(results.argument({"ids", s32({4, 3})}), {0, 1, 2, 14, 3, 2, 0, 1, 2, 0, 4, 5});
  Answer answer;
  results.candidates_of_row({1, 0, 1}, answer.to_scores, answer.to_ids);
  EXPECT_EQ(answer.ids[0], 14);
  EXPECT_EQ(answer.ids[1], 15);
  EXPECT_EQ(answer.ids[2], 19);

  std::vector<float> logits(32, 7);
  for (int id = 0; id < 5; ++id) logits[size_t(16 + id)] = float(15 + id);
  for (int id = 0; id < 15; ++id) logits[size_t(id)] = float(id);
  fill<float>(results.argument({"logits", f32({2, 16})}), logits);
  fill<float>(results.argument({"log_sum_exp", f32({2})}), {3, lowest});
  std::vector<float> whole(20), sum(1);
  const auto bytes = [](std::vector<float>& of) { return reinterpret_cast<std::byte*>(of.data()); };
  results.logits_of_row({0, 0, 1}, {f32({1, 20}), bytes(whole)});
  for (int id = 0; id < 20; ++id) EXPECT_EQ(whole[size_t(id)], float(id));
  results.sum_of_row({0, 0, 1}, {f32({1}), bytes(sum)});
  EXPECT_EQ(sum[0], 3);
  fill<float>(results.argument({"log_sum_exp", f32({2})}), {3, 3});
  results.sum_of_row({0, 0, 1}, {f32({1}), bytes(sum)});
  EXPECT_FLOAT_EQ(sum[0], 3 + std::log(2.0F));
}

TEST(VocabularyParts, DealEveryIdOnceAndLeaveEachRankARowThatIsBanned) {
  for (const int64_t vocabulary : {8, 31, 32, 47, 1111, 256206}) {
    for (const int64_t ranks : {2, 3, 4, 8, 64}) {
      const VocabularyParts parts{vocabulary, ranks};
      EXPECT_EQ(parts.rows() % 16, 0);
      int64_t next = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        EXPECT_TRUE(parts.held(rank) == 0 || parts.first(rank) == next);
        EXPECT_LT(parts.held(rank), parts.rows());
        next += parts.held(rank);
      }
      EXPECT_EQ(next, vocabulary) << ranks;
    }
  }
}

TEST(HostResults, RowsGoWhereTheyBelong) {
  HostResults results({10, 1});
  fill<float>(results.argument({"hidden", f32({3, 2})}), {0, 1, 2, 3, 4, 5});
  std::vector<float> to(8, -1);
  results.copy_rows("hidden", {1, 2, 2}, {f32({4, 2}), reinterpret_cast<std::byte*>(to.data())});
  EXPECT_THAT(to, ElementsAre(-1, -1, -1, -1, 2, 3, 4, 5));
}

TEST(HostResults, RowsThatAModuleLacksAreRefused) {
  std::vector<float> to(64);
  const Argument wanted{f32({8, 2}), reinterpret_cast<std::byte*>(to.data())};
  const auto refused = [&](const Port& given, const Rows& rows) {
    HostResults results({10, 1});
    results.argument(given);
    return error_of([&] { results.copy_rows("hidden", rows, wanted); });
  };
  EXPECT_EQ(refused({"hidden", f32({4, 2})}, {0, 4, 4}), "");
  EXPECT_THAT(refused({"hidden", f32({1, 2})}, {1, 0, 1}), HasSubstr("gives 1 rows of hidden"));
  EXPECT_THAT(refused({"hidden", f32({4, 2})}, {0, 0, 5}), HasSubstr("gives 4 rows of hidden"));
  EXPECT_THAT(refused({"hidden", f32({4, 3})}, {0, 0, 4}), HasSubstr("gives hidden as f32[4,3]"));
  EXPECT_THAT(refused({"hidden", f32({})}, {0, 0, 1}), HasSubstr("gives no hidden"));
  EXPECT_THAT(refused({"other", f32({4, 2})}, {0, 0, 1}), HasSubstr("gives no hidden"));
}

TEST(Columns, GiveExactlyWhatAPortTakes) {
  Columns columns;
  for (const int32_t value : {3, 1, 2}) columns.add("slot", value);
  const Argument argument = columns.argument({"slot", s32({3})});
  EXPECT_THAT(integers(argument), ElementsAre(3, 1, 2));
}

}  // namespace
}  // namespace ng
