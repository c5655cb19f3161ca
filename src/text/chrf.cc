#include "text/chrf.h"

#include <array>
#include <cctype>
#include <map>
#include <vector>

#include "text/utf8.h"

namespace ng {
namespace {

constexpr size_t kCharacters = 6, kWords = 2;  // the longest n-grams

using Units = std::vector<std::u32string>;  // what n-grams are made of

// Cut at what Python's str.split takes for blanks.
Units words_of(std::string_view text) {
  Units words(1);
  for (size_t at = 0; at < text.size();) {
    const Scalar next = decode_utf8(text, at);
    at += next.size;
    if (!is_blank(next.code) && (next.code < 0x1C || next.code > 0x1F)) {
      words.back().push_back(next.code);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// Characters, or words: one ASCII mark at a word's end, else at its beginning, is one of its own.
Units units_of(std::string_view text, bool whole) {
  const auto is_mark = [](char32_t code) { return code < 128 && std::ispunct(int(code)) != 0; };
  Units units;
  for (const std::u32string& word : words_of(text)) {
    if (!whole) {
      for (const char32_t code : word) units.emplace_back(1, code);
      continue;
    }
    size_t cut = is_mark(word.back()) ? word.size() - 1 : is_mark(word.front()) ? 1 : 0;
    if (word.size() == 1) cut = 0;
    if (cut > 0) units.push_back(word.substr(0, cut));
    units.push_back(word.substr(cut));
  }
  return units;
}

std::map<std::u32string, uint64_t> grams(const Units& units, size_t n) {
  std::map<std::u32string, uint64_t> found;
  for (size_t at = 0; at + n <= units.size(); ++at) {
    std::u32string gram;
    for (size_t i = at; i < at + n; ++i) gram += units[i] + U' ';
    ++found[gram];
  }
  return found;
}

}  // namespace

double chrf(std::span<const std::string> texts, std::span<const std::string> references) {
  double precision = 0, recall = 0, orders = 0;
  for (size_t order = 0; order < kCharacters + kWords; ++order) {
    const bool whole = order >= kCharacters;
    const size_t n = 1 + order - (whole ? kCharacters : 0);
    double found = 0, wanted = 0, both = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto ours = grams(units_of(texts[i], whole), n);
      const auto theirs = grams(units_of(references[i], whole), n);
      for (const auto& [gram, count] : theirs) wanted += static_cast<double>(count);
      for (const auto& [gram, count] : ours) {
        if (theirs.empty()) break;  // as sacrebleu counts
        found += static_cast<double>(count);
        const auto same = theirs.find(gram);
        if (same != theirs.end()) both += static_cast<double>(std::min(count, same->second));
      }
    }
    if (found == 0 || wanted == 0) continue;
    precision += both / found;
    recall += both / wanted;
    ++orders;
  }
  if (precision + recall == 0) return 0;
  constexpr double kBetaSquared = 4;
  const double f = (1 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
  return 100 * f / orders;
}

}  // namespace ng
