// How do a command line's words go into one text and back?
#include <algorithm>

#include "base/error.h"
#include "base/process.h"

namespace ng {
namespace {

constexpr std::string_view kBlanks = " \t\n\r";

// The word that `text` begins with; takes it off.
std::string take_word(std::string_view& text, std::string_view what) {
  std::string word;
  char quote = 0;
  size_t i = 0;
  for (; i < text.size() && (quote != 0 || kBlanks.find(text[i]) == kBlanks.npos); ++i) {
    const char c = text[i];
    const bool escapes = c == '\\' && i + 1 < text.size() && quote != '\'' &&
                         (quote == 0 || text[i + 1] == '"' || text[i + 1] == '\\');
    if (escapes) {
      word += text[++i];
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else {
      word += c;
    }
  }
  check(quote == 0, "{}: a {} is not closed in: {}", what, quote, shown(text));
  text.remove_prefix(i);
  return word;
}

}  // namespace

std::vector<std::string> split_words(std::string_view text, std::string_view what) {
  check(text.find('\0') == text.npos, "{}: holds a zero byte", what);
  std::vector<std::string> words;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    if (text.empty()) return words;
    words.push_back(take_word(text, what));
  }
}

std::string shell_quoted(std::span<const std::string> argv) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+./:,@%";
  std::string line;
  for (const std::string& word : argv) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

std::string last_lines(std::string_view text, size_t count) {
  std::string lines;
  for (; count > 0 && !text.empty();) {
    const size_t end = text.find_last_of('\n');
    const std::string_view line = text.substr(end == text.npos ? 0 : end + 1);
    text = text.substr(0, end == text.npos ? 0 : end);
    if (line.find_first_not_of(kBlanks) == line.npos) continue;
    lines = shown(line, 500) + (lines.empty() ? "" : "\n") + lines;
    --count;
  }
  return lines;
}

}  // namespace ng
