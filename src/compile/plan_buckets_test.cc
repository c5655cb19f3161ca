#include "compile/plan_buckets.h"

#include <gmock/gmock.h>

#include <random>

namespace ng {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// The least cost of all choices of at most `graphs` of the lengths.
int64_t least_cost(const LengthCounts& counts, size_t graphs) {
  std::vector<int64_t> lengths;
  for (const auto& [length, count] : counts) lengths.push_back(length);
  int64_t least = INT64_MAX;
  for (uint32_t chosen = 0; chosen < 1U << lengths.size(); ++chosen) {
    std::vector<int64_t> buckets;
    for (size_t i = 0; i < lengths.size(); ++i) {
      if ((chosen >> i & 1) != 0) buckets.push_back(lengths[i]);
    }
    if (buckets.empty() || buckets.size() > graphs || buckets.back() != lengths.back()) continue;
    least = std::min(least, padding_of(counts, buckets).computed);
  }
  return least;
}

TEST(PlanBuckets, PadAsLittleAsTheBestOfAllChoices) {
  std::mt19937 random(3);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int i = 0; i < 2000; ++i) {
    LengthCounts counts;
    const int distinct = pick(1, 9), longest = pick(9, 60), most = pick(1, 40);
    for (int k = 0; k < distinct; ++k) counts[pick(3, longest)] += pick(1, most);
    const int graphs = pick(1, 10);
    const std::vector<int64_t> buckets = plan_buckets(counts, graphs);
    EXPECT_LE(buckets.size(), static_cast<size_t>(graphs));
    EXPECT_TRUE(std::is_sorted(buckets.begin(), buckets.end()));
    EXPECT_EQ(buckets.back(), counts.rbegin()->first);
    EXPECT_EQ(padding_of(counts, buckets).computed,
              least_cost(counts, static_cast<size_t>(graphs)));
  }
}

TEST(PlanBuckets, OfAsManyLengthsAsGraphsPadNothing) {
  const LengthCounts counts = {{5, 1}, {9, 2}, {30, 1}};
  EXPECT_THAT(plan_buckets(counts, 1), ElementsAre(30));
  EXPECT_THAT(plan_buckets(counts, 2), ElementsAre(9, 30));
  EXPECT_THAT(plan_buckets(counts, 3), ElementsAre(5, 9, 30));
  EXPECT_THAT(plan_buckets(counts, 64), ElementsAre(5, 9, 30));
  EXPECT_EQ(padding_of(counts, {5, 9, 30}).share(), 0.0);
  EXPECT_EQ(padding_of(counts, {30}).share(), 1 - 53.0 / 120);
}

TEST(PlanBuckets, TakeEveryLengthThereCanBe) {
  LengthCounts counts;
  for (int64_t length = kShortestSource; length <= 8192; ++length) counts[length] = length % 7 + 1;
  const std::vector<int64_t> buckets = plan_buckets(counts, kMostGraphs);
  EXPECT_EQ(buckets.size(), static_cast<size_t>(kMostGraphs));
  EXPECT_LT(padding_of(counts, buckets).share(), 0.02);
}

TEST(PlanBuckets, CutLongSourcesInEqualPieces) {
  EXPECT_THAT(as_run({{1, 4}, {10, 1}, {11, 2}, {25, 1}}, 10),
              ElementsAre(Pair(3, 4), Pair(5, 2), Pair(6, 2), Pair(8, 2), Pair(9, 1), Pair(10, 1)));
}

}  // namespace
}  // namespace ng
