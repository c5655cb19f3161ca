#include "models/make_checkpoint.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "checkpoint/damage_for_test.h"
#include "text/languages.h"
#include "text/tokenizer_files.h"

namespace ng {
namespace {

using testing::HasSubstr;

CheckpointRecipe tiny() {
  CheckpointRecipe recipe;
  recipe.shape = "tiny";
  for (const Language& language : nllb_languages()) recipe.languages.emplace_back(language.code);
  return recipe;
}

struct Made : TemporaryDirectory {
  Path directory = path / "model";
  explicit Made(const CheckpointRecipe& recipe) { make_checkpoint(recipe, directory); }
  Checkpoint open() const { return Checkpoint::open(directory); }
};

std::vector<float> floats(const Tensor& tensor) {
  const size_t item = byte_size(tensor.type.dtype);
  std::vector<float> values;
  for (size_t at = 0; at < tensor.data.size(); at += item) {
    float value = 0;
    uint16_t bits = 0;
    std::memcpy(item == 4 ? static_cast<void*>(&value) : &bits, &tensor.data[at], item);
    if (tensor.type.dtype == DType::f16) value = f16_to_f32(bits);
    if (tensor.type.dtype == DType::bf16) value = bf16_to_f32(bits);
    values.push_back(value);
  }
  return values;
}

TEST(MakeCheckpoint, GivesTheSameModelInEveryForm) {
  const Made whole(tiny());
  const Checkpoint reference = whole.open();
  const M2M100Config config = parse_m2m100_config(reference.config(), "config.json");
  EXPECT_EQ(reference.tensors().size(), 2U * 16 + 2 * 26 + 4 + 4);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const auto format : {WeightFormat::bin, WeightFormat::safetensors}) {
      CheckpointRecipe recipe = tiny();
      recipe.dtype = dtype;
      recipe.format = format;
      recipe.shards = dtype == DType::f32 ? 3 : 1;
      const Made made(recipe);
      const Checkpoint checkpoint = made.open();
      for (const auto& [name, stored] : find_m2m100_tensors(config, checkpoint)) {
        const auto ours = floats(checkpoint.read(stored)), theirs = floats(reference.read(name));
        for (size_t i = 0; i < ours.size(); ++i) {
          const float rounded = dtype == DType::f16    ? f16_to_f32(f32_to_f16(theirs[i]))
                                : dtype == DType::bf16 ? bf16_to_f32(f32_to_bf16(theirs[i]))
                                                       : theirs[i];
          ASSERT_EQ(ours[i], rounded) << name << " " << i;
        }
      }
    }
  }
}

// The bytes of these files must never change with machine, compiler or version.
TEST(MakeCheckpoint, GivesTheSameBytesOnEveryMachine) {
  CheckpointRecipe recipe = tiny();
  recipe.seed = 7;
  const Made made(recipe), again(recipe);
  recipe.seed = 8;
  const Made other(recipe);
  const auto hash = [](const Made& made, const char* name) {
    return sha256(read_file(made.directory / name, 1 << 24)).substr(0, 16);
  };
  EXPECT_EQ(hash(made, "pytorch_model.bin"), "dc90cfd163bcc8b6");
  EXPECT_EQ(hash(made, "tokenizer.json"), "a1c8eddf6a81430e");
  EXPECT_EQ(hash(made, "sentencepiece.bpe.model"), "2577b252bb3b568f");
  for (const auto& entry : std::filesystem::directory_iterator(made.directory)) {
    const std::string name = entry.path().filename();
    EXPECT_EQ(hash(made, name.c_str()), hash(again, name.c_str())) << name;
  }
  EXPECT_NE(hash(made, "pytorch_model.bin"), hash(other, "pytorch_model.bin"));
}

TEST(MakeCheckpoint, SpreadsItsWeightsAsTrainedOnes) {
  const Checkpoint checkpoint = Made(tiny()).open();
  const auto moments = [&](const char* name) {
    double sum = 0, squares = 0;
    const auto values = floats(checkpoint.read(name));
    for (float value : values) sum += value, squares += double{value} * value;
    const double mean = sum / static_cast<double>(values.size());
    return std::pair(mean, std::sqrt(squares / static_cast<double>(values.size()) - mean * mean));
  };
  const auto [mean, deviation] = moments("model.shared.weight");
  EXPECT_NEAR(mean, 0, 0.001);
  EXPECT_NEAR(deviation, 0.5 / 8, 0.02);
  EXPECT_NEAR(moments("model.decoder.layer_norm.weight").first, 1, 0.1);
  // Columns are ordinary or five times as large.
  const auto shared = floats(checkpoint.read("model.shared.weight"));
  int large = 0;
  for (size_t column = 0; column < 64; ++column) {
    double squares = 0;
    for (size_t i = column; i < shared.size(); i += 64) squares += double{shared[i]} * shared[i];
    const double ratio = std::sqrt(squares / (static_cast<double>(shared.size()) / 64)) / (0.5 / 8);
    EXPECT_TRUE(std::abs(ratio - 1) < 0.1 || std::abs(ratio - 5) < 0.5) << ratio;
    large += ratio > 3;
  }
  EXPECT_LE(large, 4);
}

TEST(MakeCheckpoint, ItsTokenizerFilesAgree) {
  const Made made(tiny());
  const TokenizerData data = read_tokenizer_files(made.directory);
  EXPECT_EQ(data.pieces.size(), 2048U + 1 + 202 + 1);
  EXPECT_EQ(data.pieces[2049], "ace_Arab");
  EXPECT_EQ(data.pieces[2251], "<mask>");
  EXPECT_GT(data.merges.size(), 2048U - 400);
}

TEST(MakeCheckpoint, ReportsProgressToTheEnd) {
  CheckpointRecipe recipe = tiny();
  uint64_t last = 0, of = 0;
  recipe.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last);
    last = done, of = total;
  };
  const Made made(recipe);
  EXPECT_EQ(last, of);
}

TEST(MakeCheckpoint, RefusesWhatCannotBe) {
  const auto refused = [](auto change) {
    CheckpointRecipe recipe = tiny();
    change(recipe);
    const TemporaryDirectory directory;
    std::string message = refusal([&] { make_checkpoint(recipe, directory.path / "x"); });
    EXPECT_TRUE(std::filesystem::is_empty(directory.path));
    return message;
  };
  EXPECT_THAT(refused([](auto& recipe) { recipe.shape = "nllb"; }), HasSubstr("nllb-200-3.3B"));
  EXPECT_THAT(refused([](auto& recipe) { recipe.shards = 93; }), HasSubstr("93 shards for 92"));
  EXPECT_THAT(refused([](auto& recipe) { recipe.dtype = DType::s8; }), HasSubstr("--dtype s8"));
  const TemporaryDirectory directory;
  EXPECT_THAT(refusal([&] { make_checkpoint(tiny(), directory.path); }), HasSubstr("exists"));
}

}  // namespace
}  // namespace ng
