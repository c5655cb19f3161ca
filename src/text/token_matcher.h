// Where do added tokens stand in a text?
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace ng {

class TokenMatcher {
 public:
  // Looks for `patterns[i]` and finds `tokens[i]` with it; empty patterns are never found.
  TokenMatcher(const std::vector<std::string>& patterns, std::vector<AddedToken> tokens);

  // The longest pattern that `text` begins with: its size and its index, or size 0.
  struct Match {
    size_t size = 0, index = 0;
  };
  Match match(std::string_view text) const;

  // A part of a text: a token, or (nullptr) what lies between tokens. Empty only for a token whose
  // blanks the one before it took.
  struct Part {
    const AddedToken* token = nullptr;
    size_t begin = 0, end = 0;
  };
  // Leftmost-longest and disjoint, like transformers' fast tokenizers: special tokens count only if
  // `special`, a token takes blanks beside it where it says so. Points into this.
  std::vector<Part> split(std::string_view text, bool special) const;

 private:
  struct Pattern {
    std::string text;
    size_t index;
  };
  std::vector<Pattern> patterns_;  // sorted by text
  std::array<bool, 256> starts_{};
  std::vector<AddedToken> tokens_;
  bool all_special_ = true;
};

}  // namespace ng
