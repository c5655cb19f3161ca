// How is a text cut that has more tokens than the model should see at once?
#pragma once

#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace ng {

struct TextPiece {
  std::string_view text;      // points into the text that was cut
  bool cut_at_blank = false;  // what follows is the next piece, and a blank stood between them
};

// Cuts `text` (valid UTF-8) into pieces of at most `most` >= 1 tokens in the hf dialect, language
// and
// </s> not counted: at the last blank that allows it, else at the last token boundary, which is
// always between characters. Only blanks at the cuts are left out. A single character that alone
// has more tokens is a piece of its own. Time grows linearly with the text.
std::vector<TextPiece> split_to_fit(const Tokenizer& tokenizer, std::string_view text, size_t most);

}  // namespace ng
