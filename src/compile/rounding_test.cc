// Is what rounding changes counted?
#include "compile/rounding.h"

#include <gtest/gtest.h>

#include <test_paths.h>
#include <cstdlib>

#include "base/refusal_for_test.h"
#include "compile/tiny_for_test.h"

namespace ng {
namespace {

class Rounding : public testing::Test {
 protected:
  Rounding() : checkpoint_(DType::f32, config()) {
    ::setenv("NEUROGLOT_HOME", (checkpoint_.path / "home").c_str(), 1);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy(Path(NG_SOURCE_DIR) / "testdata/tokenizer" / name,
                            checkpoint_.model / name);
    }
  }
  ~Rounding() override { ::unsetenv("NEUROGLOT_HOME"); }
  static Json config() {
    Json config = tiny_config();
    config["vocab_size"] = 624;
    return config;
  }
  Json compared(DType dtype, const std::string& from = "eng_Latn",
                const std::string& more = "four") const {
    std::vector<TextRequest> requests = {{more, from, "fra_Latn"}};
    for (const char* text : {"Hello.", "a longer one, with more in it", "x", "?", "y z", "0 1 2 3",
                             "one", "two", "three"}) {
      requests.push_back({text, from, "fra_Latn"});
    }
    Progress quiet(true);
    return compare_rounded(checkpoint_.model, dtype, requests, 1, quiet);
  }
  TinyCheckpoint checkpoint_;
};

TEST_F(Rounding, ChangesNothingInFloat32) {
  const Json report = compared(DType::f32);
  EXPECT_EQ(report.at("sentences"), 10);
  EXPECT_EQ(report.at("sentences_equal"), 10);
  EXPECT_GT(report.at("tokens"), 20);
  EXPECT_EQ(report.at("tokens_equal"), report.at("tokens"));
  EXPECT_DOUBLE_EQ(report.at("chrf++").get<double>(), 100);
}

TEST_F(Rounding, OfWeightsThatMeanNothingChangesTokensAndTexts) {
  const Json report = compared(DType::bf16);
  EXPECT_LT(report.at("sentences_equal"), 10);
  EXPECT_LT(report.at("tokens_equal"), report.at("tokens"));
  EXPECT_GT(report.at("tokens_equal"), 0);
  EXPECT_LT(report.at("chrf++").get<double>(), 100);
}

TEST_F(Rounding, CutsALongLineAsTranslateDoes) {
  std::string text;
  for (int i = 0; i < 260; ++i) text += "a b ";
  EXPECT_GT(compared(DType::f32, "eng_Latn", text).at("sentences"), 10);
}

TEST_F(Rounding, RefusesALanguageThatThereIsNot) {
  EXPECT_NE(refusal([&] { compared(DType::bf16, "xxx_Latn"); }).find("xxx_Latn"),
            std::string::npos);
}

}  // namespace
}  // namespace ng
