#include "text/languages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace ng {
namespace {

std::vector<std::string> codes() {
  std::vector<std::string> codes;
  for (const Language& language : nllb_languages()) codes.emplace_back(language.code);
  return codes;
}

TEST(Languages, AreTwoHundredAndTwoDistinctNamedCodes) {
  std::set<std::string_view> seen, names;
  for (const Language& language : nllb_languages()) {
    EXPECT_TRUE(is_language_code(language.code)) << language.code;
    EXPECT_FALSE(language.name.empty());
    seen.insert(language.code);
    names.insert(language.name);
  }
  EXPECT_EQ(seen.size(), 202U);
  EXPECT_EQ(names.size(), 202U);
  EXPECT_TRUE(std::ranges::is_sorted(nllb_languages().subspan(0, 52), {}, &Language::code));
  EXPECT_EQ(nllb_languages()[46].code, "eng_Latn");
  EXPECT_EQ(nllb_languages()[201].code, "zul_Latn");
}

TEST(Languages, KnowTheFormOfACode) {
  for (const char* code : {"", "eng", "eng-Latn", "en_Latn", "Eng_Latn", "eng_latn", "eng_LATN"}) {
    EXPECT_FALSE(is_language_code(code)) << code;
  }
  EXPECT_EQ(language_name("fra_Latn"), "French");
  EXPECT_EQ(language_name("fr"), "");
  EXPECT_EQ(other_spelling("sat_Olck"), "sat_Beng");
  EXPECT_EQ(other_spelling("eng_Latn"), "");
}

TEST(Languages, FindWhatWasMeant) {
  EXPECT_EQ(close_languages("fr", codes()).at(0), "fra_Latn");
  EXPECT_EQ(close_languages("french", codes()).at(0), "fra_Latn");
  EXPECT_EQ(close_languages("Frnch", codes()).at(0), "fra_Latn");
  EXPECT_EQ(close_languages("eng_Latin", codes()).at(0), "eng_Latn");
  EXPECT_EQ(close_languages("deu", codes()).at(0), "deu_Latn");
  EXPECT_THAT(close_languages("zho", codes()), testing::IsSupersetOf({"zho_Hans", "zho_Hant"}));
  EXPECT_THAT(close_languages("", codes()), testing::IsEmpty());
  EXPECT_THAT(close_languages(std::string(100000, 'x'), codes()), testing::IsEmpty());
}

}  // namespace
}  // namespace ng
