#include "text/charsmap.h"

#include "text/sentencepiece.h"
#include "text/text_for_test.h"
#include "text/utf8.h"

namespace ng {
namespace {

std::string fixture_blob() {
  const Path path = tokenizer_testdata() / "sentencepiece.bpe.model";
  return read_sentencepiece(read_file(path, 1 << 20), "fixture").charsmap;
}

TEST(Charsmap, ReplacesByTheRulesOfItsModel) {
  const Charsmap map(fixture_blob(), "fixture");
  EXPECT_EQ(map.longest("\u2026x").replacement, "...");
  EXPECT_EQ(map.longest("\u2026x").size, 3U);
  EXPECT_EQ(map.longest("e\u0301").replacement, "é");
  EXPECT_EQ(map.longest("\u200Bx").size, 3U);
  EXPECT_EQ(map.longest("\u200Bx").replacement, "");
  EXPECT_EQ(map.longest("ex").size, 0U);
  EXPECT_EQ(map.longest("").size, 0U);
  EXPECT_EQ(map.longest(std::string_view("\0", 1)).size, 0U);
  EXPECT_TRUE(map.keeps('e'));
  EXPECT_FALSE(map.keeps('\t'));
}

TEST(Charsmap, TellsShortestFromLongest) {
  // "a" → "1", "ab" → "2": units by hand, see charsmap.h. Root's offset 0 would lead to itself, so
  // its children stand at 256 ^ label, those of "a" at 512 ^ label.
  std::vector<uint32_t> units(768, 0);
  const auto offset = [](uint32_t value) { return value << 10; };
  constexpr uint32_t kHasLeaf = 1u << 8, kLeaf = 1u << 31;
  units[0] = offset(256);
  units[256 ^ 'a'] = offset(512 ^ 256 ^ 'a') | kHasLeaf | 'a';
  units[512] = kLeaf | 0;
  units[512 ^ 'b'] = offset(700 ^ 512 ^ 'b') | kHasLeaf | 'b';
  units[700] = kLeaf | 2;
  const auto size = static_cast<uint32_t>(units.size() * 4);
  std::string blob(reinterpret_cast<const char*>(&size), 4);
  blob.append(reinterpret_cast<const char*>(units.data()), size);
  blob += std::string("1\0002\0", 4);
  const Charsmap map(blob, "made by hand");
  EXPECT_EQ(map.shortest("abc").replacement, "1");
  EXPECT_EQ(map.longest("abc").replacement, "2");
  EXPECT_EQ(map.longest("abc").size, 2U);
  EXPECT_EQ(map.longest("ac").replacement, "1");
}

TEST(Charsmap, WithoutABlobReplacesNothing) {
  const Charsmap map("", "none");
  EXPECT_EQ(map.longest("\u2026").size, 0U);
  EXPECT_TRUE(map.keeps('a'));
}

TEST(Charsmap, RefusesBlobsThatCannotBe) {
  for (const std::string_view blob :
       {std::string_view("abc"), std::string_view("\0\0\0\0ab\0\0", 8),
        std::string_view("\xFF\xFF\xFF\xFF....", 8),
        std::string_view("\4\0\0\0....\xFF\xFE", 10)}) {
    EXPECT_NE(refusal([&] { Charsmap(blob, "the file"); }).find("the file"), std::string::npos);
  }
}

TEST(Charsmap, SurvivesDamage) {
  expect_survives(fixture_blob(), 4000, [](std::span<const std::byte> bytes) {
    const Charsmap map({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "damaged");
    for (const std::string_view text : {"\u2026 e\u0301 \uFDFA", "\u0E33\uFF21", "a\u0301"}) {
      for (size_t at = 0; at < text.size(); ++at) {
        EXPECT_TRUE(is_valid_utf8(map.longest(text.substr(at)).replacement));
        EXPECT_LE(map.shortest(text.substr(at)).size, text.size() - at);
      }
    }
  });
}

}  // namespace
}  // namespace ng
