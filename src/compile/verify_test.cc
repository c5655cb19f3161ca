#include "compile/verify.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "compile/compile.h"
#include "compile/recording.h"
#include "compile/tiny_for_test.h"
#include "ir/text.h"
#include "translate/forward.h"

namespace ng {
namespace {

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
    Progress quiet(true);
    return verify_bundle(Bundle::open(bundle), options, quiet);
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

TEST(CheckingDevice, NamesTheNodeThatIsNotTheInterpreters) {
  const TinyCheckpoint checkpoint;
  Progress quiet(true);
  compile(Checkpoint::open(checkpoint.model), {}, checkpoint.path / "bundle", quiet);
  const Bundle bundle = Bundle::open(checkpoint.path / "bundle");
  const auto cpu = find_backend("cpu").open({1});
  WrongDevice wrong(*cpu);
  ThreadPool threads(1);
  CheckingDevice checking(wrong, threads);
  Session session({bundle.facts().vocabulary, bundle.facts().pad,
                   [&](const std::string& phase) { return std::string(bundle.artifact(phase)); },
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
