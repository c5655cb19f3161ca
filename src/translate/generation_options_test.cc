// Where do defaults come from, and what do combinations of lengths mean?
#include "translate/generation_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/refusal_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

GenerationOptions defaults(const char* config, const char* generation_config = nullptr) {
  const Json file = Json::parse(generation_config ? generation_config : "{}");
  return defaults_from(Json::parse(config), generation_config ? &file : nullptr);
}

TEST(GenerationOptions, ComeFromGenerationConfigAlone) {
  const auto options = defaults(R"({"num_beams": 5, "eos_token_id": 7, "max_length": 200})", R"({
      "bos_token_id": 0, "eos_token_id": [2, 3], "decoder_start_token_id": 4, "max_length": 100,
      "early_stopping": true, "forced_bos_token_id": null, "temperature": 0.2, "top_k": 5,
      "transformers_version": "4.57.6"})");
  EXPECT_EQ(options.num_beams, 1);
  EXPECT_THAT(options.eos_token_id, ElementsAre(2, 3));
  EXPECT_EQ(options.decoder_start_token_id, 4);
  EXPECT_EQ(options.max_length, 100);
  EXPECT_EQ(options.early_stopping, EarlyStopping::Yes);
  EXPECT_FALSE(options.forced_bos_token_id.has_value());
}

TEST(GenerationOptions, WithoutItComeFromConfigAndItsClass) {
  const auto options =
      defaults(R"({"num_beams": 5, "max_length": 200, "early_stopping": "never"})");
  EXPECT_EQ(options.num_beams, 5);
  EXPECT_EQ(options.max_length, 200);
  EXPECT_EQ(options.early_stopping, EarlyStopping::Never);
  EXPECT_THAT(options.eos_token_id, ElementsAre(2));
  EXPECT_EQ(options.decoder_start_token_id, 2);
  EXPECT_THAT(defaults(R"({"eos_token_id": null})").eos_token_id, IsEmpty());
}

TEST(GenerationOptions, StartWithBosWhereNothingElseIsNamed) {
  EXPECT_EQ(defaults("{}", R"({"bos_token_id": 6})").decoder_start_token_id, 6);
  EXPECT_THAT(error_of([] { defaults("{}", R"({"eos_token_id": 2})"); }),
              HasSubstr("decoder_start_token_id"));
}

TEST(GenerationOptions, RefuseWhatWouldChangeResults) {
  for (const char* option :
       {R"("do_sample": true)", R"("num_beam_groups": 2)", R"("penalty_alpha": 0.6)",
        R"("begin_suppress_tokens": [3])", R"("sequence_bias": [[[1], 2.0]])",
        R"("renormalize_logits": true)", R"("encoder_repetition_penalty": 1.1)",
        R"("guidance_scale": 2)", R"("exponential_decay_length_penalty": [1, 1.1])"}) {
    const std::string file = fmt::format(R"({{"bos_token_id": 0, {}}})", option);
    const std::string name = std::string(option).substr(0, std::string(option).find(':'));
    EXPECT_THAT(error_of([&] { defaults("{}", file.c_str()); }), HasSubstr(name));
    EXPECT_THAT(error_of([&] { defaults(file.c_str()); }), HasSubstr("config.json: " + name));
  }
  for (const char* option :
       {R"("do_sample": false)", R"("num_beam_groups": 1)", R"("penalty_alpha": 0.0)",
        R"("begin_suppress_tokens": [])", R"("guidance_scale": 1.0)", R"("do_sample": null)"}) {
    const std::string file = fmt::format(R"({{"bos_token_id": 0, {}}})", option);
    EXPECT_EQ(error_of([&] { defaults("{}", file.c_str()); }), "");
  }
}

std::string set(const char* key, const char* value) {
  return error_of([&] {
    GenerationOptions options;
    EXPECT_TRUE(apply_option(options, key, Json::parse(value), "request"));
  });
}

TEST(GenerationOptions, AreTypedAndInRange) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"num_beams", "64", "65"},
      {"num_beams", "1", "0"},
      {"num_beams", "2", "2.0"},
      {"num_return_sequences", "64", "\"2\""},
      {"max_length", "1", "0"},
      {"max_length", "2147483647", "2147483648"},
      {"max_length", "20", "18446744073709551615"},
      {"max_new_tokens", "1", "0"},
      {"max_new_tokens", "null", "true"},
      {"min_length", "0", "-1"},
      {"min_new_tokens", "0", "-9223372036854775808"},
      {"length_penalty", "-1.5", "\"1\""},
      {"early_stopping", "\"never\"", "\"always\""},
      {"early_stopping", "true", "1"},
      {"repetition_penalty", "0.5", "0"},
      {"repetition_penalty", "1", "1e-60"},
      {"repetition_penalty", "3e38", "4e38"},
      {"no_repeat_ngram_size", "0", "-1"},
      {"bad_words_ids", "[[1]]", "[]"},
      {"bad_words_ids", "[[1], [2, 3]]", "[[1], []]"},
      {"bad_words_ids", "null", "[1]"},
      {"suppress_tokens", "[]", "[-1]"},
      {"suppress_tokens", "[5]", "5"},
      {"forced_bos_token_id", "null", "[5]"},
      {"forced_eos_token_id", "[5, 6]", "\"5\""},
      {"eos_token_id", "5", "5.5"},
      {"eos_token_id", "[5]", "[[5]]"},
  };
  for (const auto& [key, good, bad] : cases) {
    EXPECT_EQ(set(key, good), "");
    EXPECT_THAT(set(key, bad), HasSubstr(fmt::format("request: \"{}\"", key)));
  }
  GenerationOptions options;
  EXPECT_FALSE(apply_option(options, "temperature", 1, "request"));
}

TEST(GenerationOptions, NameOnlyIdsOfTheVocabulary) {
  for (const char* key : {"bad_words_ids", "suppress_tokens", "forced_bos_token_id",
                          "forced_eos_token_id", "eos_token_id"}) {
    GenerationOptions options;
    const Json id = 8;
    const bool word = std::string(key) == "bad_words_ids";
    const bool list = std::string(key) == "suppress_tokens";
    apply_option(options, key,
                 word   ? Json::array({{1, id}})
                 : list ? Json::array({id})
                        : id,
                 "request");
    check_ids(options, 9);
    EXPECT_THAT(error_of([&] { check_ids(options, 8); }), HasSubstr(key));
  }
}

struct Lengths {
  int max_length, min_length;
  size_t warnings;
  bool operator==(const Lengths&) const = default;
};

Lengths resolved(const char* request, size_t prompt, GenerationOptions options = {}) {
  const Json fields = Json::parse(request);
  for (const auto& [key, value] : fields.items()) apply_option(options, key, value, "request");
  const size_t warnings = resolve(options, prompt).size();
  return {options.max_length, options.min_length, warnings};
}

TEST(GenerationOptions, NewTokenCountsWinOverLengths) {
  EXPECT_EQ(resolved(R"({"max_new_tokens": 5})", 3), (Lengths{8, 0, 0}));
  EXPECT_EQ(resolved(R"({"max_new_tokens": 5, "max_length": 4})", 3), (Lengths{8, 0, 1}));
  EXPECT_EQ(resolved(R"({"min_new_tokens": 2, "min_length": 9})", 3), (Lengths{23, 5, 0}));
  EXPECT_EQ(resolved(R"({"min_new_tokens": 0, "min_length": 9})", 3), (Lengths{23, 3, 0}));
}

TEST(GenerationOptions, AddThePromptToTransformersOwnMaximumAlone) {
  EXPECT_EQ(resolved("{}", 3).max_length, 23);
  EXPECT_EQ(resolved(R"({"max_length": 20})", 3).max_length, 20);
  GenerationOptions file;
  file.max_position_embeddings = 9;
  EXPECT_EQ(resolved("{}", 3, file).max_length, 9);
  file.max_length = 21;
  EXPECT_EQ(resolved("{}", 3, file).max_length, 21);
}

TEST(GenerationOptions, WarnOfMinimaThatCannotBeMet) {
  EXPECT_EQ(resolved(R"({"max_length": 9, "min_length": 9})", 1), (Lengths{9, 9, 0}));
  EXPECT_EQ(resolved(R"({"max_length": 9, "min_length": 10})", 1), (Lengths{9, 10, 1}));
  EXPECT_EQ(resolved(R"({"max_length": 9, "min_new_tokens": 9})", 1), (Lengths{9, 10, 1}));
}

TEST(GenerationOptions, RefuseLengthsAndSequencesThatCannotBe) {
  EXPECT_EQ(resolved(R"({"max_length": 8192})", 1).max_length, 8192);
  const auto error = [](const char* request, size_t prompt) {
    return error_of([&] { resolved(request, prompt); });
  };
  EXPECT_THAT(
      error(R"({"max_length": 8193})", 1),
      HasSubstr("a sequence of 8193 ids was asked for, at most 8192 fit: lower max_length"));
  EXPECT_EQ(resolved(R"({"max_new_tokens": 8191})", 1).max_length, 8192);
  EXPECT_THAT(error(R"({"max_new_tokens": 8191})", 2), HasSubstr("8193 ids"));
  EXPECT_EQ(resolved(R"({"max_length": 4})", 3).max_length, 4);
  EXPECT_THAT(error(R"({"max_length": 4})", 4), HasSubstr("raise max_length"));
  EXPECT_NO_THROW(resolved(R"({"num_beams": 3, "num_return_sequences": 3})", 1));
  EXPECT_THAT(error(R"({"num_beams": 3, "num_return_sequences": 4})", 1),
              HasSubstr("num_return_sequences is 4, more than num_beams, 3: lower it or raise"));
}

}  // namespace
}  // namespace ng
