#include "text/languages.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ng {
namespace {

constexpr Language kLanguages[] = {
#include "text/languages.inc"
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Levenshtein's distance without regard to ASCII case; 0 when `a` is how `b` begins.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  bool prefix = a.size() <= b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    prefix = prefix && lower(a[i]) == lower(b[i]);
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t change = diagonal + (lower(a[i]) != lower(b[j]));
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, row[j + 1] + 1});
    }
  }
  return prefix ? 0 : row.back();
}

}  // namespace

std::span<const Language> nllb_languages() { return kLanguages; }

std::string_view language_name(std::string_view code) {
  const auto found = std::ranges::find(kLanguages, code, &Language::code);
  return found == std::end(kLanguages) ? "" : found->name;
}

bool is_language_code(std::string_view text) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  return text.size() == 8 && text[3] == '_' && text[4] >= 'A' && text[4] <= 'Z' &&
         std::ranges::all_of(text.substr(0, 3), is_lower) &&
         std::ranges::all_of(text.substr(5), is_lower);
}

std::string_view other_spelling(std::string_view code) {
  if (code == "sat_Olck") return "sat_Beng";
  return code == "sat_Beng" ? "sat_Olck" : "";
}

std::vector<std::string> close_languages(std::string_view wanted,
                                         std::span<const std::string> codes) {
  std::vector<std::pair<size_t, std::string>> ranked;
  const std::string_view asked = wanted.substr(0, 64);
  for (const std::string& code : codes) {
    const size_t best = std::min({distance(asked, code), distance(asked, language_name(code)),
                                  1 + distance(asked.substr(0, 3), code.substr(0, 3))});
    if (!asked.empty() && best <= 2) ranked.emplace_back(best, code);
  }
  std::ranges::stable_sort(ranked, {}, &std::pair<size_t, std::string>::first);
  std::vector<std::string> close;
  for (const auto& [rank, code] : ranked) {
    if (close.size() < 5) close.push_back(code);
  }
  return close;
}

}  // namespace ng
