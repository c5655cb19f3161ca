#include "compile/verify.h"

#include <gtest/gtest.h>

#include <test_paths.h>
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "bundle/format.h"
#include "compile/compile.h"
#include "compile/recording.h"
#include "compile/tiny_for_test.h"
#include "ir/text.h"
#include "translate/forward.h"

namespace ng {
namespace {

using std::string_literals::operator""s;

std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// A bundle of a tiny checkpoint with one tensor changed, verified against the true one.
class VerifyTest : public testing::TestWithParam<DType> {
 protected:
  using Change = std::function<void(std::vector<float>&)>;

  Path compiled(const char* name, const Path& model) const {
    CompileOptions options;
    options.dtype = GetParam();
    options.force = true;
    Progress quiet(true);
    compile(Checkpoint::open(model), options, checkpoint_.path / name, quiet);
    return checkpoint_.path / name;
  }
  VerifyReport verify(const Path& bundle) const {
    VerifyOptions options;
    options.sentences = 3;
    options.threads = 1;
    options.reference = checkpoint_.model;
    options.rebuilt = compiled("rebuilt", checkpoint_.model);
    const auto cpu = find_backend("cpu").open({1});
    Progress quiet(true);
    return verify_bundle(Bundle::open(bundle), *cpu, options, quiet);
  }
  VerifyReport verify_changed(const std::string& tensor, const Change& change) const {
    const TinyCheckpoint other;
    auto tensors = tiny_tensors(tiny_config());
    std::vector<float> values = floats_of(tensors.at(tensor));
    change(values);
    tensors[tensor] = Tensor::of<float>(DType::f32, tensors.at(tensor).type.shape, values);
    other.write(tensors);
    return verify(compiled("changed", other.model));
  }
  static std::string first_of(const VerifyReport& report, const std::string& level) {
    for (const Finding& finding : report.findings) {
      if (finding.level == level) return finding.where;
    }
    return "";
  }

  TinyCheckpoint checkpoint_;
};

TEST_P(VerifyTest, FindsNothingInATrueBundle) {
  const VerifyReport report = verify(compiled("true", checkpoint_.model));
  EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
  EXPECT_GT(report.nodes, 50U);
  EXPECT_GT(report.tokens, 5U);
  EXPECT_EQ(report.tokens, report.tokens_equal);
  EXPECT_EQ(report.precision.size(), 2U + 1U + 1U + 1U);  // layers, hidden, logits
}

TEST_P(VerifyTest, NamesAWeightThatIsOnePercentLarger) {
  const VerifyReport report =
      verify_changed("model.encoder.layers.1.fc1.weight", [](std::vector<float>& values) {
        for (float& x : values) x *= 1.01F;
      });
  EXPECT_EQ(first_of(report, "build").find("model.encoder.layers.1.fc1.weight"), 0U);
  EXPECT_EQ(first_of(report, "precision"), "encoder.1");
}

TEST_P(VerifyTest, NamesTheLayerWhoseHeadsAreSwapped) {
  const VerifyReport report = verify_changed(
      "model.encoder.layers.0.self_attn.q_proj.weight", [](std::vector<float>& values) {
        const auto head = static_cast<long>(values.size() / 3);  // of three heads
        std::swap_ranges(values.begin(), values.begin() + head, values.begin() + head);
      });
  EXPECT_EQ(first_of(report, "build").find("model.encoder.layers.0.self_attn.q_proj.weight"), 0U);
  EXPECT_EQ(first_of(report, "precision"), "encoder.0");
}

TEST_P(VerifyTest, NamesTheLayerWhoseNormBiasIsZero) {
  const VerifyReport report =
      verify_changed("model.decoder.layers.0.final_layer_norm.bias",
                     [](std::vector<float>& values) { std::ranges::fill(values, 0.0F); });
  EXPECT_EQ(first_of(report, "build"), "model.decoder.layers.0.final_layer_norm.bias");
  EXPECT_EQ(first_of(report, "precision"), "decoder.0");
}

TEST_P(VerifyTest, NamesTheFirstLayerBehindAWrongPosition) {
  const TinyCheckpoint other(DType::f32, [] {
    Json config = tiny_config();
    config["pad_token_id"] = 3;  // positions begin two rows later
    return config;
  }());
  const VerifyReport report = verify(compiled("moved", other.model));
  EXPECT_EQ(first_of(report, "precision"), "encoder.0");
  EXPECT_FALSE(first_of(report, "build").empty());
}

TEST_P(VerifyTest, FollowsANegatedEmbeddingToTheTokens) {
  const VerifyReport report = verify_changed("model.shared.weight", [](std::vector<float>& values) {
    for (float& x : values) x = -x;
  });
  EXPECT_EQ(first_of(report, "bytes") + first_of(report, "kernel"), "");
  EXPECT_EQ(first_of(report, "build").find("model.shared.weight"), 0U);
  EXPECT_EQ(first_of(report, "precision"), "encoder.0");
  EXPECT_EQ(first_of(report, "tokens").find("sentence 1, position "), 0U);
  EXPECT_LT(report.tokens_equal, report.tokens);
  std::vector<std::string> levels;
  for (const Finding& finding : report.findings) levels.push_back(finding.level);
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  EXPECT_EQ(levels, (std::vector<std::string>{"build", "precision", "tokens"}));
}

TEST_P(VerifyTest, ComparesNoLayersOfAModelOfAnotherSize) {
  const auto with = [this](const char* key, int value) {
    Json config = tiny_config();
    config[key] = value;
    return verify(compiled("other", TinyCheckpoint(DType::f32, config).model));
  };
  EXPECT_EQ(first_of(with("d_model", 48), "precision"), "encoder.0");
  EXPECT_EQ(with("encoder_layers", 1).precision.at(1), std::pair("encoder.1"s, double{INFINITY}));
  for (const int vocabulary : {30, 50}) {
    const VerifyReport report = with("vocab_size", vocabulary);
    EXPECT_FALSE(first_of(report, "build").empty());
    EXPECT_TRUE(report.precision.empty());
  }
}

TEST_P(VerifyTest, NamesTheTensorWithADamagedByte) {
  const Path bundle = compiled("damaged", checkpoint_.model);
  std::string bytes = read_file(bundle / "weights.bin", 1 << 20);
  bytes[bytes.size() / 2] ^= 1;
  put_file(bundle / "weights.bin", bytes);
  const VerifyReport report = verify(bundle);
  ASSERT_EQ(report.findings.front().level, "bytes");
  EXPECT_NE(report.findings.front().what.find("'model."), std::string::npos)
      << report.findings.front().what;
}

INSTANTIATE_TEST_SUITE_P(Dtypes, VerifyTest, testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name(info.param)); });

// A device whose layer norms are wrong in one element.
class WrongDevice : public Device {
 public:
  explicit WrongDevice(Device& inner) : inner_(inner) {}
  std::string description() const override { return "wrong"; }
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    std::string text(artifact);
    const size_t at = text.find("eps=");
    if (at != std::string::npos) text.replace(at, text.find(' ', at) - at, "eps=0.25");
    return inner_.load(text, weights);
  }

 private:
  Device& inner_;
};

TEST(Verify, NamesTheNodeOfAWrongKernel) {
  const TinyCheckpoint checkpoint;
  Progress quiet(true);
  compile(Checkpoint::open(checkpoint.model), {}, checkpoint.path / "bundle", quiet);
  const auto cpu = find_backend("cpu").open({1});
  WrongDevice wrong(*cpu);
  VerifyOptions options;
  options.threads = 1;
  const VerifyReport report =
      verify_bundle(Bundle::open(checkpoint.path / "bundle"), wrong, options, quiet);
  ASSERT_FALSE(report.findings.empty());
  for (const Finding& finding : report.findings) {
    EXPECT_EQ(finding.level, "kernel");
    EXPECT_NE(finding.where.find("layer_norm"), std::string::npos) << finding.where;
  }
}

// A tiny checkpoint with a tokenizer; its embedding may be negated.
struct SpeakingCheckpoint : TinyCheckpoint {
  explicit SpeakingCheckpoint(float sign = 1) : TinyCheckpoint(DType::f32, config()) {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy(Path(NG_SOURCE_DIR) / "testdata/tokenizer" / name, model / name);
    }
    auto tensors = tiny_tensors(config());
    Tensor& shared = tensors.at("model.shared.weight");
    std::vector<float> values = floats_of(shared);
    for (float& x : values) x *= sign;
    shared = Tensor::of<float>(DType::f32, shared.type.shape, values);
    write(tensors);
  }
  static Json config() {
    Json config = tiny_config();
    config["vocab_size"] = 624;
    return config;
  }
  Path bundle() const {
    Progress quiet(true);
    compile(Checkpoint::open(model), {}, path / "bundle", quiet);
    return path / "bundle";
  }
};

VerifyReport verify_against(const SpeakingCheckpoint& reference, const Path& bundle) {
  VerifyOptions options;
  options.threads = 1;
  options.reference = reference.model;
  options.rebuilt = reference.bundle();
  const auto cpu = find_backend("cpu").open({1});
  Progress quiet(true);
  return verify_bundle(Bundle::open(bundle), *cpu, options, quiet);
}

TEST(VerifyText, IsTheReferencesInATrueBundle) {
  const SpeakingCheckpoint reference, same;
  const VerifyReport report = verify_against(reference, same.bundle());
  EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
  EXPECT_EQ(report.texts, 4U);
  EXPECT_EQ(report.texts_equal, 4U);
}

TEST(VerifyText, IsTheLastLevelThatADifferentModelReaches) {
  const SpeakingCheckpoint reference, negated(-1);
  const VerifyReport report = verify_against(reference, negated.bundle());
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings.back().level, "text");
  EXPECT_EQ(report.findings.back().where.find("sentence "), 0U);
  EXPECT_LT(report.texts_equal, report.texts);
}

TEST(VerifyText, FindsATokenizerThatOnlyOneSideHas) {
  const SpeakingCheckpoint reference, mute;
  std::filesystem::remove(mute.model / "tokenizer.json");
  const VerifyReport report = verify_against(reference, mute.bundle());
  ASSERT_EQ(report.findings.size(), 1U) << to_json(report).dump(2);
  EXPECT_EQ(report.findings[0].level, "text");
  EXPECT_EQ(report.findings[0].what, "the bundle has none");
}

TEST(CheckingDevice, NamesTheNodeThatIsNotTheInterpreters) {
  const TinyCheckpoint checkpoint;
  Progress quiet(true);
  compile(Checkpoint::open(checkpoint.model), {}, checkpoint.path / "bundle", quiet);
  const Bundle bundle = Bundle::open(checkpoint.path / "bundle");
  const auto cpu = find_backend("cpu").open({1});
  WrongDevice wrong(*cpu);
  ThreadPool threads(1);
  CheckingDevice checking(wrong, threads);
  Session session(
      {bundle.facts().vocabulary, bundle.facts().pad,
       [&](const std::string& phase) { return std::string(bundle.file(graph_file(phase), "cpu")); },
       [&](const std::string& name) { return bundle.weight(name); }},
      checking);
  const ForwardInputs in = {1, 3, 2, {4, 5, 2}, {}, {2, 6}};
  forward(session, in, {[](const Tensor&) {}, [](std::span<const float>) {}});
  ASSERT_FALSE(checking.differences.empty());
  for (const Difference& difference : checking.differences) {
    EXPECT_NE(difference.node.find("layer_norm"), std::string::npos) << difference.node;
  }
}

}  // namespace
}  // namespace ng
