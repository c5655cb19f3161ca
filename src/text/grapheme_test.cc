#include "text/grapheme.h"

#include <fstream>
#include <sstream>

#include "text/text_for_test.h"
#include "text/utf8.h"

namespace ng {
namespace {

std::vector<size_t> ends_of(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t at = 0; at < text.size();) ends.push_back(at = cluster_end(text, at));
  return ends;
}

size_t clusters(std::string_view text) { return ends_of(text).size(); }

TEST(Grapheme, KeepsTogetherWhatTheRulesJoin) {
  EXPECT_EQ(clusters("\r\n"), 1U);                                        // GB3
  EXPECT_EQ(clusters("\n\r"), 2U);                                        // GB4
  EXPECT_EQ(clusters("a\u0301\u0323b"), 2U);                              // GB9
  EXPECT_EQ(clusters("\u1100\u1161\u11A8"), 1U);                          // GB6, GB7
  EXPECT_EQ(clusters("\uAC01\u11A8\u1161"), 2U);                          // GB8
  EXPECT_EQ(clusters("\u0E01\u0E33"), 1U);                                // GB9a
  EXPECT_EQ(clusters("\u0600\u0661"), 1U);                                // GB9b
  EXPECT_EQ(clusters("\u0915\u094D\u0924"), 1U);                          // GB9c
  EXPECT_EQ(clusters("\u0915\u094D\u200D\u0924"), 1U);                    // GB9c over a joiner
  EXPECT_EQ(clusters("\u0915\u094D\u200C\u0924"), 2U);                    // not over a non-joiner
  EXPECT_EQ(clusters("\u0915\u0301\u0924"), 2U);                          // not without a linker
  EXPECT_EQ(clusters("\U0001F468\u200D\U0001F469\u200D\U0001F467"), 1U);  // GB11
  EXPECT_EQ(clusters("\U0001F468\u200D\u200D\U0001F469"), 2U);
  EXPECT_EQ(clusters("\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7\U0001F1EA"), 3U);  // GB12
}

// Unicode's own cases: "÷ 0020 × 0308 ÷ 000D ÷ # remark".
TEST(Grapheme, PassesUnicodesBreakTest) {
  const auto path = shared_file("data/text/unicode/GraphemeBreakTest.txt");
  if (!path) GTEST_SKIP() << "no GraphemeBreakTest.txt";
  std::ifstream file(*path);
  int cases = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string text, word;
    std::vector<size_t> expected;
    while (words >> word) {
      if (word == "÷" && !text.empty()) expected.push_back(text.size());
      if (word != "÷" && word != "×") {
        append_utf8(text, static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
      }
    }
    if (text.empty()) continue;
    ++cases;
    EXPECT_EQ(ends_of(text), expected) << line;
  }
  EXPECT_GT(cases, 500);
}

}  // namespace
}  // namespace ng
