#include "text/token_matcher.h"

#include <algorithm>

#include "text/utf8.h"

namespace ng {

TokenMatcher::TokenMatcher(const std::vector<std::string>& patterns, std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    patterns_.push_back({patterns[i], i});
    starts_[static_cast<unsigned char>(patterns[i][0])] = true;
  }
  std::ranges::stable_sort(patterns_, {}, &Pattern::text);
  for (const AddedToken& token : tokens_) all_special_ = all_special_ && token.special;
}

TokenMatcher::Match TokenMatcher::match(std::string_view text) const {
  Match best;
  auto low = patterns_.begin(), high = patterns_.end();  // those that agree with text[0, depth)
  for (size_t depth = 0; low != high && depth <= text.size(); ++depth) {
    if (depth > 0 && low->text.size() == depth) best = {depth, low->index};
    if (depth == text.size() || (depth == 0 && !starts_[static_cast<unsigned char>(text[0])]))
      break;
    const auto byte = [depth](const Pattern& pattern) {
      return pattern.text.size() > depth ? static_cast<unsigned char>(pattern.text[depth]) : -1;
    };
    const int wanted = static_cast<unsigned char>(text[depth]);
    low = std::partition_point(low, high, [&](const Pattern& p) { return byte(p) < wanted; });
    high = std::partition_point(low, high, [&](const Pattern& p) { return byte(p) <= wanted; });
  }
  return best;
}

std::vector<TokenMatcher::Part> TokenMatcher::split(std::string_view text, bool special) const {
  std::vector<Part> parts;
  size_t done = 0;
  const bool none = patterns_.empty() || (all_special_ && !special);
  for (size_t at = none ? text.size() : 0; at < text.size();) {
    const Match found = match(text.substr(at));
    if (found.size == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found.index];
    size_t begin = std::max(at, done), end = std::max(at + found.size, done);
    at += found.size;  // what a token took on its right may begin the next one
    if (token.special && !special) continue;
    while (token.lstrip && begin > done) {
      size_t before = begin - 1;
      while (before > done && (text[before] & 0xC0) == 0x80) --before;
      if (!is_blank(decode_utf8(text, before).code)) break;
      begin = before;
    }
    for (Scalar next; token.rstrip && is_blank((next = decode_utf8(text, end)).code);) {
      end += next.size;
    }
    if (done < begin) parts.push_back({nullptr, done, begin});
    parts.push_back({&token, begin, end});
    done = end;
  }
  if (done < text.size()) parts.push_back({nullptr, done, text.size()});
  return parts;
}

}  // namespace ng
