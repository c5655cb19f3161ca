#include "compile/analyze.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "base/refusal_for_test.h"
#include "compile/tiny_for_test.h"

namespace ng {
namespace {

using ::testing::HasSubstr;

const ModuleAnalysis& module_of(const Analysis& analysis, const std::string& name) {
  for (const ModuleAnalysis& module : analysis.modules) {
    if (module.plan.name == name) return module;
  }
  fail("no module {}", name);
}

Analysis analysis_of(const Json& config, const StaticOptions& options,
                     const std::string& target = "inf2") {
  return analyze(describe_model(config, "config.json"), checked(options),
                 find_neuron_target(target));
}

// Modules for 2 sentences of 4 ids, 2 beams, 6 positions.
StaticOptions tiny_options() {
  StaticOptions options;
  options.batches = {2};
  options.beams = 2;
  options.source_lengths = {4};
  options.target_length = 6;
  return options;
}

Json nllb(int64_t d_model, int64_t layers) {
  return {
      {"model_type", "m2m_100"},  {"vocab_size", 256206},          {"d_model", d_model},
      {"encoder_layers", layers}, {"decoder_layers", layers},      {"encoder_ffn_dim", 8192},
      {"decoder_ffn_dim", 8192},  {"encoder_attention_heads", 16}, {"decoder_attention_heads", 16},
      {"eos_token_id", 2}};
}

// tiny_config: width 24, 2 encoder layers (ffn 40, 3 heads), 1 decoder layer (ffn 17, 2 heads), 37
// words.
TEST(Analyze, CountsTheProductsOfATinyModel) {
  const Analysis analysis = analysis_of(tiny_config(), tiny_options());
  constexpr int64_t kTokens = 2 * 4, kRows = 2 * 2, kSquare = 24 * 24;
  const int64_t layer = 2 * kTokens * (4 * kSquare + 2 * 24 * 40)  // q, k, v, out; ffn
                        + 2 * 2 * kTokens * 4 * 24;                // scores and their mixtures
  const int64_t memory = 2 * kTokens * 2 * kSquare;                // keys and values
  EXPECT_EQ(module_of(analysis, "encode-b2-s4-t6").cost.flops, 2 * layer + memory);
  const int64_t step = 2 * kRows * (6 * kSquare + 2 * 24 * 17 + 37 * 24)  // two q, out; one k, v
                       + 2 * 2 * kRows * (6 + 4) * 24;
  EXPECT_EQ(module_of(analysis, "decode-b2-s4-t6").cost.flops, step);
}

TEST(Analyze, CountsWhatATinyStepReads) {
  const Analysis analysis = analysis_of(tiny_config(), tiny_options());
  const ModuleCost& cost = module_of(analysis, "decode-b2-s4-t6").cost;
  constexpr int64_t kRows = 2 * 2, kWidth = 24;
  const int64_t matrices = 6 * kWidth * kWidth + 2 * kWidth * 17 + 37 * kWidth;
  const int64_t biases = 6 * kWidth + 17 + kWidth, norms = 4 * 2 * kWidth;
  const int64_t embedded = 2 * kRows * kWidth;  // tokens and positions
  const int64_t past = 2 * kRows * 6 * kWidth, memory = 2 * 2 * 4 * kWidth;
  EXPECT_EQ(cost.read_bytes, 4 * (matrices + biases + norms + embedded + past + memory));
  const int64_t cache = 2 * (2 * 2 * 6 + 1) * kWidth;  // a row for what is not wanted
  EXPECT_EQ(cost.state_bytes, 4 * (cache + memory));
  EXPECT_EQ(cost.past.history_bytes, 4 * 3 * past);
  EXPECT_EQ(cost.past.reorder_bytes, 4 * (2 * cache + past));
}

TEST(Analyze, SharesWeightsAndCachesBetweenModules) {
  StaticOptions options = tiny_options();
  const Analysis one = analysis_of(tiny_config(), options);
  options.source_lengths = {3, 4};
  const Analysis two = analysis_of(tiny_config(), options);
  EXPECT_EQ(two.modules.size(), one.modules.size() + 1);
  EXPECT_EQ(two.memory.weight_bytes, one.memory.weight_bytes);
  EXPECT_EQ(two.memory.state_bytes, one.memory.state_bytes);
  EXPECT_EQ(two.memory.temporary_bytes, one.memory.temporary_bytes);
  EXPECT_GT(two.compilation.minutes, one.compilation.minutes);
}

// The arithmetic of docs/neuron.md for NLLB-200 3.3B in bf16, done there by hand.
TEST(Analyze, AgreesWithTheArithmeticOfTheLargestModel) {
  StaticOptions options;
  options.batches = {1};
  options.source_lengths = {128};
  options.dtype = DType::bf16;
  const Analysis analysis = analysis_of(nllb(2048, 24), options);
  EXPECT_EQ(analysis.support_percentage(), 100.0);
  EXPECT_NEAR(static_cast<double>(analysis.memory.weight_bytes), 6.7e9, 0.05e9);
  const ModuleAnalysis& step = module_of(analysis, "decode-b1-s128-t256");
  constexpr int64_t kToken = 196608;  // keys and values of 24 layers
  EXPECT_EQ(step.cost.state_bytes, kToken * ((4 * 256 + 1) + 128));
  const int64_t weights_read = step.cost.read_bytes - kToken * (4 * 256 + 128);
  EXPECT_NEAR(static_cast<double>(weights_read), 1.93e9 * 2, 0.02e9);
  EXPECT_NEAR(step.hbm_seconds, 9e-3, 0.6e-3);
  EXPECT_NEAR(static_cast<double>(step.cost.flops), 4 * 2 * 1.93e9, 0.4e9);  // and attention
  EXPECT_EQ(step.cost.past.history_bytes, 3 * kToken * 4 * 256);
}

TEST(Analyze, SaysWhetherACoreHoldsTheDefaultModules) {
  StaticOptions options;
  options.dtype = DType::bf16;
  const Analysis half = analysis_of(nllb(2048, 24), options);
  EXPECT_EQ(half.modules.size(), 12U);
  EXPECT_EQ(half.support_percentage(), 100.0);
  EXPECT_TRUE(to_json(half)["memory"]["fits"].get<bool>());
  EXPECT_EQ(to_json(half)["memory"]["hbm_bytes_per_core"].get<int64_t>(), int64_t{16} << 30);
  options.dtype = DType::f32;
  const Analysis full = analysis_of(nllb(2048, 24), options);
  EXPECT_FALSE(to_json(full)["memory"]["fits"].get<bool>());
  const Analysis larger = analysis_of(nllb(2048, 24), options, "trn2");
  EXPECT_TRUE(to_json(larger)["memory"]["fits"].get<bool>());
  EXPECT_NEAR(larger.modules[0].hbm_seconds / full.modules[0].hbm_seconds,
              (0x1p30 * 820 / 2) / (2.9e12 / 4), 1e-9);
}

TEST(Analyze, NamesWhatFallsBackWithItsReason) {
  Json config = tiny_config();
  config["activation_function"] = "gelu";
  const Analysis analysis = analysis_of(config, tiny_options());
  EXPECT_LT(analysis.support_percentage(), 100.0);
  ASSERT_EQ(analysis.fallbacks.size(), 2U);  // of encode and decode: their sizes differ
  int64_t count = 0;
  for (const Fallback& found : analysis.fallbacks) {
    EXPECT_EQ(found.kind, "erf");
    EXPECT_THAT(found.reason, HasSubstr("AwsNeuronErf"));
    EXPECT_THAT(found.graph, HasSubstr("= erf(%0)"));
    EXPECT_EQ(found.modules.size(), 1U);
    count += found.count;
  }
  EXPECT_EQ(count, 2 + 1);  // layers
  EXPECT_EQ(analysis.supported.count("erf"), 0U);
}

TEST(Analyze, SpeaksAsTorchNeuronxDoes) {
  Json config = tiny_config();
  config["activation_function"] = "gelu";
  const Json good = to_json(analysis_of(tiny_config(), tiny_options()));
  EXPECT_EQ(good["support_percentage"], "100.00%");
  EXPECT_EQ(good["unsupported_operators"], Json::array());
  EXPECT_EQ(good["supported_operators"]["top_k"], 1);
  const Json bad = to_json(analysis_of(config, tiny_options()));
  const Json& first = bad["unsupported_operators"][0];
  for (const char* key : {"kind", "failureAt", "call", "opGraph"}) {
    EXPECT_TRUE(first[key].is_string()) << key;
  }
  EXPECT_EQ(first["failureAt"], "neuronx-cc");
  ASSERT_EQ(good["modules"].size(), 3U);
  EXPECT_FALSE(good["modules"][1].contains("beam_history"));  // prefill
  EXPECT_TRUE(good["modules"][2].contains("beam_history"));
}

TEST(Analyze, RefusesAConfigurationOfAnotherFamily) {
  EXPECT_THAT(refusal([] {
                analysis_of({{"model_type", "t5"}}, tiny_options());
              }),
              HasSubstr("model_type \"t5\" is not supported"));
}

}  // namespace
}  // namespace ng
