// What users see of an error: kinds, exit codes, and hostile text made harmless.
#include "base/error.h"

#include <gtest/gtest.h>

#include <random>

#include "base/json.h"

namespace ng {
namespace {

TEST(Error, KindsHaveTheirExitCodes) {
  using Kind = Error::Kind;
  EXPECT_EQ(Error(Kind::User, "").exit_code(), 1);
  EXPECT_EQ(Error(Kind::Device, "").exit_code(), 2);
  EXPECT_EQ(Error(Kind::Verification, "").exit_code(), 3);
  EXPECT_EQ(Error(Kind::Internal, "").exit_code(), 70);
}

TEST(Error, CheckFailsAsTheUsersFault) {
  EXPECT_NO_THROW(check(true, "{}", 1));
  try {
    check(false, "{}: has {} rows", "a.txt", 3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::User);
    EXPECT_STREQ(error.what(), "a.txt: has 3 rows");
  }
}

TEST(Error, NgCheckSaysWhereAndWhat) {
  try {
    NG_CHECK(1 + 1 == 3, "rows {}", 7);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Internal);
    const std::string text = error.what();
    EXPECT_NE(text.find("error_test.cc:"), std::string::npos) << text;
    EXPECT_NE(text.find("1 + 1 == 3 does not hold: rows 7"), std::string::npos) << text;
  }
}

TEST(Shown, EscapesControlCharactersAndKeepsText) {
  EXPECT_EQ(shown("naïve 字 😀"), "naïve 字 😀");
  EXPECT_EQ(shown(std::string_view("a\n\0\x1b[31m\x7f", 9)), "a\\x0a\\x00\\x1b[31m\\x7f");
}

TEST(Shown, CutsBetweenCharacters) {
  EXPECT_EQ(shown("abcd", 4), "abcd");
  EXPECT_EQ(shown("abcde", 4), "abcd…");
  EXPECT_EQ(shown("ab字字", 4), "ab字…");
}

// nlohmann's strict writer refuses anything that is not UTF-8: an independent judge.
bool is_utf8(const std::string& bytes) {
  try {
    return !Json(bytes).dump().empty();
  } catch (const Json::exception&) {
    return false;
  }
}

TEST(Shown, IsAlwaysValidUtf8) {
  EXPECT_EQ(shown("\xC0\x80"), "\\xc0\\x80");           // overlong
  EXPECT_EQ(shown("\xED\xA0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(shown("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(shown("\xF0\x9F\x98"), "\\xf0\\x9f\\x98");  // cut short
  std::mt19937 random(1);
  int valid = 0;
  for (int round = 0; round < 100000; ++round) {
    std::string bytes;  // a third of all bytes are no ASCII, so that many strings are valid
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(random() % (i == 0 ? 256 : 192));
    for (char& byte : bytes) byte = byte >= 0 ? '~' : byte;
    const std::string text = shown(bytes);
    EXPECT_NO_THROW((void)Json(text).dump()) << text;
    EXPECT_EQ(text == bytes, is_utf8(bytes)) << text;
    valid += is_utf8(bytes) ? 1 : 0;
  }
  EXPECT_GT(valid, 10000);
  EXPECT_LT(valid, 90000);
}

}  // namespace
}  // namespace ng
