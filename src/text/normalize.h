// What does a text look like to the model? The two dialects' normalizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/charsmap.h"
#include "text/token_matcher.h"
#include "text/tokenizer_data.h"

namespace ng {

inline constexpr size_t kMostText = size_t{64} << 20;       // bytes of one text
inline constexpr size_t kMostNormalized = size_t{1} << 30;  // and of what replacements make of it

// A text and, where that is tracked, for each of its bytes the byte of the original it comes from.
struct Normalized {
  std::string text;
  std::vector<uint32_t> origin{};
  bool tracked = false;

  // `from`: the original's byte, of every byte added.
  void add(std::string_view bytes, uint32_t from) {
    check(text.size() <= kMostNormalized, "a text of over {} bytes once it is normalized",
          kMostNormalized);
    text += bytes;
    if (tracked) origin.resize(text.size(), from);
  }
  uint32_t origin_of(size_t at) const { return tracked ? origin[at] : 0; }
};

// The original text[begin, end) as it stands, each byte coming from itself.
Normalized untouched(std::string_view text, size_t begin, size_t end, bool tracked);

// transformers': the steps in order. The character map replaces a grapheme cluster of under 6 bytes
// whole by its shortest match, else each character by its own (tokenizers' Precompiled).
Normalized normalize_hf(Normalized text, const std::vector<NormalizerStep>& steps,
                        const Charsmap& charsmap);

// SentencePiece's: longest match at every place; blanks collapsed, stripped at both ends and
// written ▁, one ▁ in front; `verbatim` pieces stay as they are. Empty when nothing is left.
Normalized normalize_sentencepiece(std::string_view text, const Charsmap& charsmap,
                                   const TokenMatcher& verbatim, bool tracked);

}  // namespace ng
