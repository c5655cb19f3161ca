// What is a tokenizer, as data? What its files say once they are read, and what a bundle stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

// A token that is looked for in the text itself, before or after it is normalized.
struct AddedToken {
  std::string content;
  uint32_t id = 0;
  bool special = false;     // control: decoding may skip it, plain text never yields it
  bool normalized = false;  // looked for in the normalized text, in normalized form
  bool lstrip = false;      // takes the blanks on its left
  bool rstrip = false;
};

// Pieces left and right, side by side, become piece `result`; the lowest rank in a word goes first.
struct Merge {
  uint32_t left = 0, right = 0, result = 0, rank = 0;
};

// One step of the hf dialect's normalizer.
struct NormalizerStep {
  enum Kind : uint32_t { Charsmap, Strip, Collapse } kind = Charsmap;
  bool left = false, right = false;  // Strip: which ends lose their blanks
  std::string content{};             // Collapse: what two or more spaces become
};

struct TokenizerData {
  std::vector<std::string> pieces;   // by id, added tokens too; empty where an id has no token
  std::vector<uint32_t> piece_rank;  // by id: in which order the sentencepiece dialect forms them
  std::vector<Merge> merges;         // ascending (left, right), no pair twice
  std::string charsmap;              // see Charsmap
  std::vector<NormalizerStep> steps;
  std::vector<AddedToken> added;  // ascending id
  std::vector<std::string>
      verbatim;  // user-defined pieces: the sentencepiece dialect keeps them whole
  std::string unk_surface = " \u2047 ";  // how the sentencepiece dialect decodes unk
  uint32_t bos = 0, pad = 0, eos = 0, unk = 0;
  bool legacy = false;   // framing X </s> [src] in place of [src] X </s>
  bool cleanup = false;  // decoding takes the blanks before punctuation away
};

constexpr uint32_t kMostIds = 4u << 20;

// Brings the added tokens into order and their contents into `pieces`, over what may be there. Of
// two with one content the later stays; two contents may share an id when one is the vocabulary's
// piece there: both are found, the later is shown and says which blanks are taken, as in
// transformers. User, naming `what`: two ids for one content, two other contents for one id, or one
// for the id of a piece that is no added token.
void settle_added(TokenizerData& data, std::string_view what);

// Brings the merges into order; of equal pairs the highest rank stays, as in transformers.
void sort_merges(TokenizerData& data);

// Throws User, naming `what`, when an id, a rank or an order is not as described above.
void check_tokenizer(const TokenizerData& data, std::string_view what);

// Our own form: little-endian, versioned, no padding. Parsing bounds every count by the bytes that
// are left and ends with check_tokenizer (User); the same data gives the same bytes.
std::string serialize(const TokenizerData& data);
TokenizerData parse_tokenizer_data(std::string_view bytes, std::string_view what);

}  // namespace ng
