#include "models/m2m100_config.h"

#include <gmock/gmock.h>

#include "checkpoint/damage_for_test.h"
#include "checkpoint/safetensors_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

M2M100Config parse(std::string_view text) {
  return parse_m2m100_config(parse_json(text, "config.json"), "config.json");
}

// A configuration of m2m_100 with `rest`, a comma first.
std::string with(std::string_view rest) {
  return fmt::format(R"({{"model_type":"m2m_100"{}}})", rest);
}

TEST(M2M100Config, AbsentKeysMeanTransformersDefaults) {
  const M2M100Config config = parse(with(""));
  EXPECT_EQ(config.vocab_size, 128112);
  EXPECT_EQ(config.d_model, 1024);
  EXPECT_EQ(config.encoder.layers, 12);
  EXPECT_EQ(config.decoder.ffn, 4096);
  EXPECT_EQ(config.decoder.heads, 16);
  EXPECT_EQ(config.activation, "relu");
  EXPECT_TRUE(config.scale_embedding);
  EXPECT_EQ(config.pad, 1);
  EXPECT_THAT(config.eos, ElementsAre(2));
}

TEST(M2M100Config, ReadsEveryKeyAndBothAliases) {
  const M2M100Config config = parse(
      with(R"(,"vocab_size":99,"hidden_size":24,"encoder_layers":3,"decoder_layers":2,)"
           R"("encoder_ffn_dim":7,"decoder_ffn_dim":9,"num_attention_heads":8,"dropout":"any",)"
           R"("decoder_attention_heads":3,"activation_function":"silu","scale_embedding":false,)"
           R"("eos_token_id":[5,6],"pad_token_id":4,"bos_token_id":7,"num_hidden_layers":77)"));
  EXPECT_EQ(config.d_model, 24);
  EXPECT_EQ(config.encoder.layers, 3);
  EXPECT_EQ(config.encoder.heads, 8);
  EXPECT_EQ(config.decoder.heads, 3);
  EXPECT_EQ(config.decoder.ffn, 9);
  EXPECT_EQ(config.activation, "swish");
  EXPECT_FALSE(config.scale_embedding);
  EXPECT_THAT(config.eos, ElementsAre(5, 6));
  EXPECT_EQ(config.pad, 4);
}

struct Refused {
  const char* rest;
  const char* message;
};
class M2M100ConfigRefusal : public testing::TestWithParam<Refused> {};

TEST_P(M2M100ConfigRefusal, NamesTheKey) {
  EXPECT_THAT(refusal([] { parse(with(GetParam().rest)); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Each, M2M100ConfigRefusal,
    testing::Values(
        Refused{R"(,"vocab_size":7)", "\"vocab_size\" is 7, must be at least 8"},
        Refused{R"(,"vocab_size":4000001)", "\"vocab_size\" is 4000001"},
        Refused{R"(,"vocab_size":"many")", "\"vocab_size\" must be an integer"},
        Refused{R"(,"vocab_size":1e3)", "\"vocab_size\" must be an integer"},
        Refused{R"(,"encoder_layers":257)", "\"encoder_layers\" is 257, must be from 1 to 256"},
        Refused{R"(,"decoder_layers":257)", "\"decoder_layers\" is 257, must be from 1 to 256"},
        Refused{R"(,"decoder_layers":0)", "\"decoder_layers\" is 0"},
        Refused{R"(,"decoder_ffn_dim":1048577)", "\"decoder_ffn_dim\" is 1048577, must be from 1"},
        Refused{R"(,"d_model":65537)", "\"d_model\" is 65537"},
        Refused{R"(,"d_model":16,"hidden_size":32)", "\"d_model\" is 16 but \"hidden_size\" is 32"},
        Refused{R"(,"encoder_ffn_dim":-1)", "\"encoder_ffn_dim\" is -1"},
        Refused{R"(,"decoder_attention_heads":3)", "3 attention heads do not divide d_model 1024"},
        Refused{R"(,"activation_function":"gelu_new")", "activation_function 'gelu_new'"},
        Refused{R"(,"pad_token_id":128112)", "\"pad_token_id\" is 128112"},
        Refused{R"(,"decoder_start_token_id":-1)", "\"decoder_start_token_id\" is -1"},
        Refused{R"(,"eos_token_id":[])", "\"eos_token_id\" must hold"},
        Refused{R"(,"eos_token_id":[2,"x"])", "\"eos_token_id\" must be an integer"},
        Refused{R"(,"eos_token_id":[2,null])", "\"eos_token_id\" is -1"},
        Refused{R"(,"scale_embedding":1)", "\"scale_embedding\" must be true or false"},
        Refused{R"(,"normalize_before":false)", "\"normalize_before\" must be true"},
        Refused{R"(,"is_encoder_decoder":false)", "\"is_encoder_decoder\" must be true"},
        Refused{R"(,"tie_encoder_decoder":true)", "\"tie_encoder_decoder\" must be false"},
        Refused{R"(,"quantization_config":{"bits":4})", "\"quantization_config\" is set"}));

TEST(M2M100Config, TakesSizesAtTheLimit) {
  const M2M100Config config = parse(
      with(R"(,"vocab_size":4000000,"d_model":65536,"encoder_layers":256,"decoder_layers":256)"));
  EXPECT_EQ(m2m100_tensors(config).size(), 256U * 16 + 256 * 26 + 5);
  EXPECT_EQ(parse(with(R"(,"vocab_size":8)")).vocab_size, 8);
  EXPECT_EQ(parse(with(R"(,"encoder_ffn_dim":1048576)")).encoder.ffn, 1'048'576);
}

TEST(M2M100Config, RefusesOtherModelsByName) {
  const auto refused = [](std::string_view text) { return refusal([&] { parse(text); }); };
  EXPECT_THAT(refused(R"({"model_type":"marian"})"), HasSubstr("model_type 'marian'"));
  EXPECT_THAT(refused("{}"), HasSubstr("model_type ''"));
}

// A model of one layer each, d_model 4, ffn 6, vocabulary 9, its tensors filled with a number each.
struct TinyModel {
  std::string config = with(
      R"(,"vocab_size":9,"d_model":4,"encoder_layers":1,"decoder_layers":1,"encoder_ffn_dim":6,)"
      R"("decoder_ffn_dim":6,"encoder_attention_heads":2,"decoder_attention_heads":2)");
  std::map<std::string, Tensor> tensors;

  TinyModel() {
    float value = 0;
    for (const auto& [name, shape] : m2m100_tensors(parse(config))) set(name, shape, value += 1);
  }
  void set(const std::string& name, const Shape& shape, float value) {
    const std::vector<float> values(static_cast<size_t>(element_count(shape)), value);
    tensors[name] = Tensor::of<float>(DType::f32, shape, values);
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    node.key() = to;
    tensors.insert(std::move(node));
  }
  std::map<std::string, std::string> find() const {
    const TemporaryDirectory directory;
    put_file(directory.path / "config.json", config);
    write_safetensors(directory.path / "model.safetensors", tensors);
    const Checkpoint checkpoint = Checkpoint::open(directory.path);
    return find_m2m100_tensors(parse(config), checkpoint);
  }
  std::string refused() const {
    return refusal([this] { find(); });
  }
};

constexpr const char* kNames[] = {"model.shared.weight", "model.encoder.embed_tokens.weight",
                                  "model.decoder.embed_tokens.weight", "lm_head.weight"};

TEST(M2M100Tensors, FindsTheEmbeddingUnderAnyOfItsNames) {
  for (const char* name : kNames) {
    TinyModel model;
    model.rename("model.shared.weight", name);
    EXPECT_EQ(model.find().at("model.shared.weight"), name);
  }
}

TEST(M2M100Tensors, TakesEqualCopiesOfTheEmbeddingAndRefusesOthers) {
  TinyModel model;
  for (const char* name : kNames) model.tensors[name] = model.tensors.at(kNames[0]);
  EXPECT_EQ(model.find().at("model.shared.weight"), "model.shared.weight");
  const std::vector<uint16_t> bits(36, f32_to_bf16(8.0F));
  for (const char* name : kNames) model.set(name, {9, 4}, 8);
  model.tensors["lm_head.weight"] = Tensor::of<uint16_t>(DType::bf16, {9, 4}, bits);
  EXPECT_EQ(model.find().at("model.shared.weight"), "model.shared.weight");
  model.set("lm_head.weight", {9, 4}, 77);
  EXPECT_THAT(model.refused(), HasSubstr("'model.shared.weight' and 'lm_head.weight' differ"));
}

TEST(M2M100Tensors, UntiedModelsNeedAllFourNames) {
  TinyModel model;
  model.config.insert(model.config.size() - 1, R"(,"tie_word_embeddings":false)");
  EXPECT_THAT(model.refused(), HasSubstr("'model.encoder.embed_tokens.weight' is missing"));
  for (const char* name : kNames) model.tensors[name] = model.tensors.at(kNames[0]);
  EXPECT_EQ(model.find().size(), 16U + 26 + 5);
}

TEST(M2M100Tensors, FindsThoseOfBaseModelCheckpoints) {
  TinyModel model;
  for (const auto& [name, shape] : m2m100_tensors(parse(model.config))) {
    model.rename(name, name.substr(6));
  }
  const auto found = model.find();
  EXPECT_EQ(found.at("model.shared.weight"), "shared.weight");
  EXPECT_EQ(found.at("model.decoder.layers.0.fc1.bias"), "decoder.layers.0.fc1.bias");
}

TEST(M2M100Tensors, IgnoresWhatTransformersIgnores) {
  TinyModel model;
  model.set("model.encoder.embed_positions.weights", {3, 4}, 0);
  model.set("model.decoder.version", {1}, 3);
  model.set("model.decoder.embed_positions._float_tensor", {1}, 0);
  EXPECT_EQ(model.find().size(), 16U + 26 + 5);
}

TEST(M2M100Tensors, NamesTheTensorThatDoesNotFit) {
  TinyModel wrong_shape;
  wrong_shape.set("model.encoder.layers.0.fc1.weight", {8, 4}, 0);
  EXPECT_THAT(wrong_shape.refused(),
              HasSubstr("'model.encoder.layers.0.fc1.weight' is [8,4], config.json says [6,4]"));
  TinyModel missing;
  missing.tensors.erase("model.decoder.layers.0.encoder_attn.k_proj.bias");
  EXPECT_THAT(missing.refused(),
              HasSubstr("'model.decoder.layers.0.encoder_attn.k_proj.bias' is missing"));
  TinyModel unknown;
  unknown.set("model.decoder.layers.1.fc1.bias", {6}, 0);
  EXPECT_THAT(unknown.refused(), HasSubstr("'model.decoder.layers.1.fc1.bias' has no place"));
  TinyModel integers;
  integers.tensors["model.decoder.layer_norm.bias"] =
      Tensor::own({DType::s8, {4}}, std::vector<std::byte>(4));
  EXPECT_THAT(integers.refused(), HasSubstr("'model.decoder.layer_norm.bias' holds s8"));
  TinyModel no_embedding;
  no_embedding.tensors.erase("model.shared.weight");
  EXPECT_THAT(no_embedding.refused(), HasSubstr("'model.shared.weight' is missing"));
}

TEST(M2M100Config, SurvivesDamage) {
  const std::string config = with(
      R"(,"vocab_size":9,"d_model":4,"encoder_layers":1,"decoder_layers":1,"encoder_ffn_dim":6,)"
      R"("encoder_attention_heads":2,"activation_function":"relu","eos_token_id":[2,3])");
  expect_survives(config, 20'000, [](std::span<const std::byte> bytes) {
    parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  });
}

}  // namespace
}  // namespace ng
