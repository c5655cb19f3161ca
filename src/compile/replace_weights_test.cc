#include "compile/replace_weights.h"

#include <gmock/gmock.h>

#include "bundle/format.h"
#include "compile/tiny_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

// A checkpoint with other weights than TinyCheckpoint's.
struct FineTune : TinyCheckpoint {
  explicit FineTune(const Json& config = tiny_config()) : TinyCheckpoint(DType::f32, config) {
    auto tensors = tiny_tensors(config);
    for (auto& [name, tensor] : tensors) {
      std::vector<float> values(static_cast<size_t>(element_count(tensor.type.shape)));
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) - 2.5F;
      tensor = Tensor::of<float>(DType::f32, tensor.type.shape, values);
    }
    write(tensors);
  }
};

class ReplaceWeights : public testing::Test {
 protected:
  ReplaceWeights() {
    options_.targets = {"cpu", "inf2", "pjrt"};
    options_.neuron.emit_only = true;
    options_.modules = {{2, 1}, 2, {8, 4}, 6, true, true, true, DType::f32};
  }
  Path compiled(const Path& model, const char* name) {
    compile(Checkpoint::open(model), options_, base_.path / name, quiet_);
    return base_.path / name;
  }
  void replace(const Path& model) { replace_weights(bundle_, Checkpoint::open(model), 1, quiet_); }
  // What is said of a checkpoint with that config; the bundle stays as it was.
  std::string refused(const Json& config) {
    const FineTune other(config);
    const auto before = contents(bundle_);
    std::string message = refusal([&] { replace(other.model); });
    EXPECT_EQ(contents(bundle_), before);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(base_.path), {}), 2) << "leftovers";
    return message;
  }

  const TinyCheckpoint base_;
  const Path bundle_ = base_.path / "bundle";
  CompileOptions options_;
  Progress quiet_{true};
};

TEST_F(ReplaceWeights, GivesTheBytesThatCompilingGives) {
  int made = 0;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& targets :
         {std::set<std::string>{"cpu"}, {"reference", "trn2"}, {"cpu", "inf2", "pjrt"}}) {
      options_.dtype = dtype;
      options_.targets = targets;
      options_.force = true;
      options_.modules.device_candidates = options_.modules.with_logits = dtype == DType::f32;
      compiled(base_.model, "bundle");
      const FineTune tuned;
      put_file(tuned.model / "generation_config.json", R"({"max_length":77})");
      put_file(tuned.model / "README.md", "---\nlicense: mit\n---\n");
      const auto before = contents(bundle_);
      const auto fresh = contents(compiled(tuned.model, std::to_string(++made).c_str()));
      EXPECT_NE(fresh.at("weights.bin"), before.at("weights.bin"));
      put_file(bundle_ / "verification.json", "{}");  // of the weights that go
      replace(tuned.model);
      EXPECT_EQ(contents(bundle_), fresh);
    }
  }
}

TEST_F(ReplaceWeights, TakesWhatIsNoShapeFromTheFineTune) {
  compiled(base_.model, "bundle");
  Json config = tiny_config();
  config["eos_token_id"] = {2, 6};
  config["decoder_start_token_id"] = 4;
  config["max_length"] = 50;
  config["aaa"] = "first by name, of no matter";
  const FineTune tuned(config);
  replace(tuned.model);
  EXPECT_EQ(contents(bundle_), contents(compiled(tuned.model, "fresh")));
  EXPECT_EQ(Bundle::open(bundle_).facts().decoder_start, 4);
}

TEST_F(ReplaceWeights, NamesWhatMakesAnotherShape) {
  compiled(base_.model, "bundle");
  const auto changes = [&](const char* key, const Json& value) {
    Json config = tiny_config();
    config[key] = value;
    config["aaa"] = "first by name, of no matter";
    return refused(config);
  };
  EXPECT_THAT(changes("d_model", 36),
              HasSubstr("\"d_model\" is 36, " + bundle_.string() + " was made for 24"));
  for (const auto& [key, value] : {std::pair<const char*, Json>{"vocab_size", 38},
                                   {"encoder_layers", 1},
                                   {"decoder_layers", 2},
                                   {"encoder_ffn_dim", 41},
                                   {"decoder_ffn_dim", 16},
                                   {"encoder_attention_heads", 2},
                                   {"decoder_attention_heads", 4},
                                   {"pad_token_id", 3},
                                   {"activation_function", "gelu"},
                                   {"scale_embedding", false},
                                   {"eos_token_id", 2}}) {
    EXPECT_THAT(changes(key, value), HasSubstr(fmt::format("\"{}\" is {}, ", key, value.dump())));
  }
}

TEST_F(ReplaceWeights, SaysWhenAnotherBuildMadeTheBundle) {
  compiled(base_.model, "bundle");
  const Json good = Json::parse(read_file(bundle_ / kManifestName, 1 << 24));
  const std::string file = "graphs/decode.txt";
  const std::string other = read_file(bundle_ / file, 1 << 24) + "\n";
  put_file(bundle_ / file, other);
  const Json row = {{"bytes", other.size()}, {"sha256", sha256(other)}};
  const auto edited = [&](const auto& change) {
    Json manifest = good;
    manifest["files"][file] = row;
    change(manifest);
    put_manifest(bundle_, manifest);
    return refused(tiny_config());
  };
  EXPECT_THAT(edited([](Json&) {}),
              HasSubstr("another build of neuroglot made it, this one makes other " + file));
  EXPECT_THAT(edited([](Json& manifest) { manifest["modules"].erase(0); }),
              HasSubstr("not such as compile makes"));
  EXPECT_THAT(edited([](Json& manifest) { manifest["targets"] = {"tpu"}; }),
              HasSubstr("no target \"tpu\""));
}

}  // namespace
}  // namespace ng
