#include "checkpoint/write_weights.h"

#include <gmock/gmock.h>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/damage_for_test.h"
#include "checkpoint/torch_zip.h"

namespace ng {
namespace {

using testing::HasSubstr;

Weight weight(const std::string& name, int64_t rows, const std::string& values) {
  return {name, {DType::f16, {rows, 3}}, values};
}

// Every byte is the first letter of the values' name; in blocks of five bytes.
void fill(const Weight& weight, const PutBytes& put) {
  const std::vector<std::byte> bytes(static_cast<size_t>(byte_count(weight.type)),
                                     static_cast<std::byte>(weight.values[0]));
  for (size_t at = 0; at < bytes.size(); at += 5) {
    put(std::span(bytes).subspan(at, std::min<size_t>(5, bytes.size() - at)));
  }
}

TEST(WriteWeights, SplitsIntoTheNumberAskedFor) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<Weight> weights;
    for (uint64_t i = 0, n = 1 + random() % 20; i < n; ++i) {
      weights.push_back(weight(std::to_string(i), static_cast<int64_t>(random() % 9), "x"));
    }
    const size_t count = 1 + random() % weights.size();
    const Shards shards = split_weights(weights, count);
    ASSERT_EQ(shards.size(), count);
    size_t next = 0;
    for (const auto& shard : shards) {
      ASSERT_FALSE(shard.empty());
      for (const Weight& one : shard) ASSERT_EQ(one.name, std::to_string(next++));
    }
    ASSERT_EQ(next, weights.size());
  }
  EXPECT_THAT(refusal([] { split_weights({weight("a", 1, "a")}, 2); }), HasSubstr("2 shards"));
}

TEST(WriteWeights, BothFormatsReadBack) {
  const std::vector<Weight> weights = {weight("a", 4, "a"), weight("b", 1, "b"),
                                       weight("c", 9, "c")};
  for (const auto format : {WeightFormat::bin, WeightFormat::safetensors}) {
    for (const size_t shards : {1, 2, 3}) {
      const TemporaryDirectory directory;
      put_file(directory.path / "config.json", "{}");
      write_weights(directory.path, split_weights(weights, shards), format, fill);
      const Checkpoint checkpoint = Checkpoint::open(directory.path);
      ASSERT_EQ(checkpoint.tensors().size(), 3U);
      EXPECT_EQ(checkpoint.sources().size(), shards == 1 ? 2 : shards + 2);
      for (const Weight& one : weights) {
        EXPECT_EQ(checkpoint.find(one.name)->type, one.type);
        for (std::byte byte : checkpoint.read(one.name).data) {
          ASSERT_EQ(byte, static_cast<std::byte>(one.values[0]));
        }
      }
    }
  }
}

TEST(WriteWeights, AliasesShareAStorageInAFileAndRepeatItInTheNext) {
  const std::vector<Weight> weights = {weight("a", 4, "x"), weight("b", 4, "x"),
                                       weight("c", 4, "x"), weight("d", 4, "d")};
  const Shards shards = split_weights(weights, 2);
  EXPECT_EQ(stored_bytes(shards), 3U * 24);
  const TemporaryDirectory directory;
  write_weights(directory.path, shards, WeightFormat::bin, fill);
  const auto first =
      map_tensors(directory.path / "pytorch_model-00001-of-00002.bin", parse_torch_zip);
  const auto second =
      map_tensors(directory.path / "pytorch_model-00002-of-00002.bin", parse_torch_zip);
  EXPECT_EQ(first.at("a").offset, first.at("b").offset);
  EXPECT_TRUE(same_values(first.at("a"), second.at("c")));
  const Json index =
      parse_json(read_file(directory.path / "pytorch_model.bin.index.json", 9999), "x");
  EXPECT_EQ(index.at("metadata").at("total_size"), 72);
  EXPECT_EQ(index.at("weight_map").at("c"), "pytorch_model-00002-of-00002.bin");
}

TEST(WriteWeights, StoragesLieAtMultiplesOf64) {
  const TemporaryDirectory directory;
  write_torch_zip(directory.path / "x.bin",
                  std::vector<Weight>{weight("a", 5, "a"), weight("b", 1, "b")}, fill);
  for (const auto& [name, stored] : map_tensors(directory.path / "x.bin", parse_torch_zip)) {
    EXPECT_EQ(stored.offset % 64, 0U) << name;
  }
}

}  // namespace
}  // namespace ng
