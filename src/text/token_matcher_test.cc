#include "text/token_matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ng {
namespace {

AddedToken token(std::string content, bool special = false) {
  return {std::move(content), 0, special};
}

// "[token]", "text", …
std::vector<std::string> parts(std::vector<AddedToken> tokens, std::string_view text,
                               bool special = true) {
  std::vector<std::string> patterns, shown;
  for (const AddedToken& each : tokens) patterns.push_back(each.content);
  const TokenMatcher matcher(patterns, std::move(tokens));
  for (const auto& [found, begin, end] : matcher.split(text, special)) {
    const std::string part(text.substr(begin, end - begin));
    shown.push_back(found != nullptr ? "[" + part + "]" : part);
  }
  return shown;
}

using testing::ElementsAre;

TEST(TokenMatcher, FindsTheLeftmostThenTheLongest) {
  const std::vector<AddedToken> tokens = {token("ab"), token("abcd"), token("bcd"), token("a")};
  EXPECT_THAT(parts(tokens, "xabcx"), ElementsAre("x", "[ab]", "cx"));
  EXPECT_THAT(parts(tokens, "abcda"), ElementsAre("[abcd]", "[a]"));
  EXPECT_THAT(parts(tokens, ""), ElementsAre());
}

TEST(TokenMatcher, SpecialTokensAreTextUnlessAskedFor) {
  const std::vector<AddedToken> tokens = {token("</s>", true), token("word")};
  EXPECT_THAT(parts(tokens, "a</s>word"), ElementsAre("a", "[</s>]", "[word]"));
  EXPECT_THAT(parts(tokens, "a</s>word", false), ElementsAre("a</s>", "[word]"));
}

TEST(TokenMatcher, TakesBlanksWhereATokenSaysSo) {
  AddedToken left = token("<l>"), right = token("<r>");
  left.lstrip = right.rstrip = true;
  EXPECT_THAT(parts({left}, "a \u3000<l> b"), ElementsAre("a", "[ \u3000<l>]", " b"));
  EXPECT_THAT(parts({right}, "a <r> \n b"), ElementsAre("a ", "[<r> \n ]", "b"));
  EXPECT_THAT(parts({left, right}, "<r>  <l>"), ElementsAre("[<r>  ]", "[<l>]"));
  // The blanks that one token took are still looked at, as in tokenizers.
  EXPECT_THAT(parts({right, token(" left")}, "<r>  left"), ElementsAre("[<r>  ]", "[left]"));
}

}  // namespace
}  // namespace ng
