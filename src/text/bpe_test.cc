#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

namespace ng {
namespace {

using Ids = std::vector<uint32_t>;

// Pieces without text and random merges over them.
TokenizerData random_data(std::mt19937& random, uint32_t ids) {
  TokenizerData data;
  data.pieces.resize(ids);
  data.piece_rank.resize(ids);
  for (uint32_t& rank : data.piece_rank) rank = random() % 8;  // many ties
  const auto any_id = [&] { return static_cast<uint32_t>(random() % ids); };
  for (uint32_t rank = 0; rank < ids * ids / 2; ++rank) {
    data.merges.push_back({any_id(), any_id(), any_id(), rank});
  }
  sort_merges(data);
  return data;
}

// The definition: look at all neighbours, merge the best, start again.
Ids slowly_merged(const TokenizerData& data, Ids word, Bpe::Order order) {
  std::map<std::pair<uint32_t, uint32_t>, Merge> merges;
  for (const Merge& merge : data.merges) merges[{merge.left, merge.right}] = merge;
  while (true) {
    size_t best = 0;
    uint32_t best_rank = Bpe::kNone, result = 0;
    for (size_t i = 0; i + 1 < word.size(); ++i) {
      const auto found = merges.find({word[i], word[i + 1]});
      if (found == merges.end()) continue;
      const Merge& merge = found->second;
      const uint32_t rank =
          order == Bpe::Order::merge_rank ? merge.rank : data.piece_rank[merge.result];
      if (rank < best_rank) best = i, best_rank = rank, result = merge.result;
    }
    if (best_rank == Bpe::kNone) return word;
    word[best] = result;
    word.erase(word.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

Ids merged(const Bpe& bpe, const Ids& ids, Bpe::Order order) {
  std::vector<Bpe::Symbol> word;
  for (uint32_t id : ids) word.push_back({id, static_cast<uint32_t>(word.size())});
  Bpe::Room room;
  bpe.merge(word, order, room);
  EXPECT_TRUE(std::ranges::is_sorted(word, {}, &Bpe::Symbol::begin));
  Ids result;
  for (const Bpe::Symbol& symbol : word) result.push_back(symbol.id);
  return result;
}

TEST(Bpe, MergesByTheDefinition) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const auto ids = static_cast<uint32_t>(random() % 12 + 2);
    const TokenizerData data = random_data(random, ids);
    const Bpe bpe(data);
    Ids word(random() % 40);
    for (uint32_t& id : word) id = random() % 10 == 0 ? Bpe::kNone : random() % ids;
    for (const auto order : {Bpe::Order::merge_rank, Bpe::Order::piece_rank}) {
      EXPECT_EQ(merged(bpe, word, order), slowly_merged(data, word, order));
    }
  }
}

TEST(Bpe, MergesAMillionSymbolsOfOneWord) {
  TokenizerData data;
  data.pieces.resize(20);
  data.piece_rank.resize(20);
  for (uint32_t id = 0; id + 1 < 20; ++id) data.merges.push_back({id, id, id + 1, id});
  sort_merges(data);
  EXPECT_EQ(merged(Bpe(data), Ids(size_t{1} << 20, 0), Bpe::Order::merge_rank), Ids({19, 19}));
}

TEST(Bpe, KnowsPiecesOfOneCharacter) {
  TokenizerData data;
  data.pieces = {"a", "", "\u2581", "ab", "\U0001F600", "s"};
  data.piece_rank.resize(6);
  data.added = {{"s", 5, true}};
  const Bpe bpe(data);
  EXPECT_EQ(bpe.piece_of('a'), 0U);
  EXPECT_EQ(bpe.piece_of(0x2581), 2U);
  EXPECT_EQ(bpe.piece_of(0x1F600), 4U);
  EXPECT_EQ(bpe.piece_of('s'), Bpe::kNone);  // special
  EXPECT_EQ(bpe.piece_of('b'), Bpe::kNone);
  EXPECT_EQ(bpe.piece_of(0x10FFFF), Bpe::kNone);
}

}  // namespace
}  // namespace ng
