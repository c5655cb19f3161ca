#include "translate/bucket_columns.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

namespace ng {
namespace {

using testing::ElementsAre;

Type f32(Shape shape) { return {DType::f32, std::move(shape)}; }
Type s32(Shape shape) { return {DType::s32, std::move(shape)}; }

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
  HostResults results;
  fill<float>(results.argument({"scores", f32({2, 4})}), {1, 3, 3, 2, 7, 7, 7, 7});
  fill<int32_t>(results.argument({"ids", s32({2, 4})}), {4, 9, 5, 1, 8, 6, 7, 5});
  Answer answer;
  results.candidates_of_row({0, 1, 1}, answer.to_scores, answer.to_ids);
  results.candidates_of_row({1, 0, 1}, answer.to_scores, answer.to_ids);
  EXPECT_THAT(answer.scores, ElementsAre(7, 7, 7, 3, 3, 2));
  EXPECT_THAT(answer.ids, ElementsAre(5, 6, 7, 5, 9, 1));
}

TEST(HostResults, WholeRowsGiveTheSameOrder) {
  HostResults results;
  fill<float>(results.argument({"logits", f32({1, 5})}), {2, 4, 1, 4, 2});
  Answer answer;
  results.best_of_logits({0, 1, 1}, answer.to_scores, answer.to_ids);
  EXPECT_THAT(std::vector<int32_t>(answer.ids.begin() + 3, answer.ids.end()), ElementsAre(1, 3, 0));
}

TEST(HostResults, RowsGoWhereTheyBelong) {
  HostResults results;
  fill<float>(results.argument({"hidden", f32({3, 2})}), {0, 1, 2, 3, 4, 5});
  std::vector<float> to(8, -1);
  results.copy_rows("hidden", {1, 2, 2}, {f32({4, 2}), reinterpret_cast<std::byte*>(to.data())});
  EXPECT_THAT(to, ElementsAre(-1, -1, -1, -1, 2, 3, 4, 5));
}

TEST(Columns, GiveExactlyWhatAPortTakes) {
  Columns columns;
  for (const int32_t value : {3, 1, 2}) columns.add("slot", value);
  const Argument argument = columns.argument({"slot", s32({3})});
  EXPECT_THAT(integers(argument), ElementsAre(3, 1, 2));
}

}  // namespace
}  // namespace ng
