#include "text/split.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace ng {
namespace {

size_t character_start(std::string_view text, size_t at) {
  while (at > 0 && at < text.size() && (text[at] & 0xC0) == 0x80) --at;
  return at;
}

size_t skip_blanks(std::string_view text, size_t at) {
  for (Scalar next; at < text.size() && is_blank((next = decode_utf8(text, at)).code);) {
    at += next.size;
  }
  return at;
}

// The end of `text` without the blanks at its end.
size_t trimmed_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t last = character_start(text, end - 1);
    if (!is_blank(decode_utf8(text, last).code)) break;
    end = last;
  }
  return end;
}

// A first part of `text` that has `most` tokens or fewer if cut at a blank up to `limit`, else at
// `limit` itself.
TextPiece cut_before(std::string_view text, size_t limit) {
  for (size_t at = limit; at > 0; at = character_start(text, at - 1)) {
    if (!is_blank(decode_utf8(text, at).code)) continue;
    const size_t end = trimmed_end(text.substr(0, at));
    if (end > skip_blanks(text, 0)) return {text.substr(0, end), true};
    break;
  }
  return {text.substr(0, limit), false};
}

TextPiece first_piece(const Tokenizer& tokenizer, std::string_view text, size_t most) {
  // The tokens of a start of the text that has too many: doubled until it has.
  size_t window = most * 8;
  Encoded start;
  do {
    window = window >= text.size() ? text.size() : character_start(text, window);
    start = tokenizer.encode_with_offsets(text.substr(0, window));
    if (start.ids.size() <= most && window == text.size()) return {text, false};
    window *= 2;
  } while (start.ids.size() <= most);
  // A part cut out may have more tokens than it had inside the whole: then a shorter one.
  for (size_t keep = most; keep > 0;) {
    const TextPiece piece = cut_before(text, start.offsets[keep]);
    const size_t tokens = tokenizer.encode_content(piece.text).size();
    if (!piece.text.empty() && tokens <= most) return piece;
    keep -= std::min(keep, std::max<size_t>(1, tokens - std::min(tokens, most)));
  }
  return {text.substr(0, decode_utf8(text, 0).size), false};
}

}  // namespace

std::vector<TextPiece> split_to_fit(const Tokenizer& tokenizer, std::string_view text,
                                    size_t most) {
  NG_CHECK(most >= 1 && is_valid_utf8(text), "{} tokens", most);
  std::vector<TextPiece> pieces;
  do {
    TextPiece piece = first_piece(tokenizer, text, most);
    text.remove_prefix(piece.text.size());
    if (piece.cut_at_blank) text.remove_prefix(skip_blanks(text, 0));
    piece.cut_at_blank = piece.cut_at_blank && !text.empty();
    pieces.push_back(piece);
  } while (!text.empty());
  return pieces;
}

}  // namespace ng
