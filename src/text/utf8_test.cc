#include "text/utf8.h"

#include <gtest/gtest.h>

namespace ng {
namespace {

TEST(Utf8, EveryScalarComesBack) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    const Scalar scalar = decode_utf8(text, 0);
    ASSERT_TRUE(scalar.valid && scalar.code == code && scalar.size == text.size()) << code;
  }
}

// What Python's bytes.decode("utf-8", "replace") makes of them.
TEST(Utf8, RepairsAsPythonReplaces) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"a\xFFz", "a\uFFFDz"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},                      // overlong
      {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},            // overlong
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // a surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // above U+10FFFF
      {"\xE2\x82", "\uFFFD"},                            // cut short: one for what was there
      {"\xE2\x82x", "\uFFFDx"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xF0\x9Fx", "\uFFFDx"},
      {"\x80\x80", "\uFFFD\uFFFD"},
      {"caf\xC3\xA9", "café"},
  };
  for (const auto& [bytes, repaired] : cases) {
    EXPECT_EQ(repair_utf8(bytes), repaired);
    EXPECT_EQ(is_valid_utf8(bytes), bytes == repaired);
    EXPECT_TRUE(is_valid_utf8(repair_utf8(bytes)));
  }
}

TEST(Utf8, SeesAnInvalidByteAnywhere) {
  for (size_t at = 0; at < 40; ++at) {
    std::string text(40, 'a');
    EXPECT_TRUE(is_valid_utf8(text));
    text[at] = static_cast<char>(0xBF);
    EXPECT_FALSE(is_valid_utf8(text));
  }
}

TEST(Utf8, BlanksAreUnicodeWhiteSpace) {
  int blanks = 0;
  for (uint32_t code = 0; code < 0x110000; ++code) blanks += is_blank(code);
  EXPECT_EQ(blanks, 25);
  EXPECT_TRUE(is_blank(' ') && is_blank(0xA0) && is_blank(0x3000));
  EXPECT_FALSE(is_blank(0x200B) || is_blank(0) || is_blank(0x2581));
}

}  // namespace
}  // namespace ng
