#include "text/split.h"

#include <gmock/gmock.h>

#include <ctime>
#include <random>

#include "text/text_for_test.h"
#include "text/utf8.h"

namespace ng {
namespace {

const Tokenizer& fixture() {
  static const Tokenizer kTokenizer = Tokenizer::open(tokenizer_testdata());
  return kTokenizer;
}

size_t tokens(std::string_view text) { return fixture().encode_content(text).size(); }

bool all_blank(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Scalar scalar = decode_utf8(text, at);
    if (!is_blank(scalar.code)) return false;
    at += scalar.size;
  }
  return true;
}

// Nothing is lost but blanks at cuts, cuts are between characters, pieces fit.
void expect_good(std::string_view text, size_t most) {
  const std::vector<TextPiece> pieces = split_to_fit(fixture(), text, most);
  ASSERT_FALSE(pieces.empty());
  size_t at = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto [piece, at_blank] = pieces[i];
    const auto begin = static_cast<size_t>(piece.data() - text.data());
    ASSERT_TRUE(begin >= at && all_blank(text.substr(at, begin - at)));
    EXPECT_TRUE(i == 0 || pieces[i - 1].cut_at_blank == (begin > at));
    at = begin + piece.size();
    EXPECT_TRUE(is_valid_utf8(piece));
    EXPECT_TRUE(text.empty() || !piece.empty());
    const bool one = piece.size() == decode_utf8(piece, 0).size;
    EXPECT_TRUE(tokens(piece) <= most || one) << piece;
  }
  EXPECT_TRUE(all_blank(text.substr(at)));
  EXPECT_FALSE(pieces.back().cut_at_blank);
}

TEST(Split, LeavesAloneWhatFits) {
  for (const std::string_view text : {"", " ", "The house", "  the  house  "}) {
    const auto pieces = split_to_fit(fixture(), text, 100);
    ASSERT_EQ(pieces.size(), 1U);
    EXPECT_EQ(pieces[0].text, text);
    EXPECT_FALSE(pieces[0].cut_at_blank);
  }
}

TEST(Split, CutsAtTheLastBlankThatFits) {
  const std::string text = "The small red house stands beside the river.";
  for (size_t most = 1; most <= tokens(text); ++most) {
    const auto pieces = split_to_fit(fixture(), text, most);
    expect_good(text, most);
    const size_t end = pieces[0].text.size();
    const size_t next = text.find(' ', end + 1);
    if (!pieces[0].cut_at_blank || next == std::string::npos) continue;
    EXPECT_GT(tokens(text.substr(0, next)), most) << pieces[0].text;
  }
}

TEST(Split, CutsAtATokenWhereThereIsNoBlank) {
  const std::string text = "河边有一座小红房子，孩子们夏天在那里玩。下一班火车什么时候开？";
  const auto pieces = split_to_fit(fixture(), text, 5);
  EXPECT_GT(pieces.size(), 4U);
  for (const TextPiece& piece : pieces) EXPECT_FALSE(piece.cut_at_blank);
  EXPECT_EQ(tokens(pieces[0].text), 5U);
  expect_good(text, 5);
}

TEST(Split, DropsBlanksAtCutsOnly) {
  const auto pieces = split_to_fit(fixture(), "  the house \u3000\t the  river  ", 2);
  ASSERT_GE(pieces.size(), 2U);
  EXPECT_TRUE(pieces[0].text.starts_with("  the"));
  for (size_t i = 1; i < pieces.size(); ++i)
    EXPECT_FALSE(is_blank(decode_utf8(pieces[i].text, 0).code));
}

TEST(Split, HoldsForOddTexts) {
  const Json goldens =
      parse_json(read_file(tokenizer_testdata() / "goldens.json", 1 << 20), "goldens.json");
  for (const Json& golden : goldens) {
    for (const size_t most : {1, 2, 3, 7, 20}) expect_good(golden["text"].get<std::string>(), most);
  }
  expect_good("\uFDFA\uFDFA a\uFDFA", 1);  // one character of many tokens
  expect_good(std::string(5000, '\1') + "the house", 2);
  expect_good("a" + std::string(3000, ' ') + "b", 1);
}

TEST(Split, TakesLinearTime) {
  const auto seconds = [](const std::string& text) {
    const std::clock_t begin = std::clock();
    EXPECT_GT(split_to_fit(fixture(), text, 100).size(), 1U);
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  std::string text;
  while (text.size() < size_t{1} << 17) text += "河边有一座小红房子，孩子";
  const double part = seconds(text);
  std::string whole;
  for (int i = 0; i < 8; ++i) whole += text;
  EXPECT_LT(seconds(whole), 30 * part + 0.1);  // 64 times, were it quadratic
}

}  // namespace
}  // namespace ng
