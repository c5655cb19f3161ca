// Which pieces is a word made of? Byte pair encoding by merges.
#pragma once

#include <cstdint>
#include <vector>

#include "text/tokenizer_data.h"

namespace ng {

class Bpe {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // `data` has passed check_tokenizer and outlives this.
  explicit Bpe(const TokenizerData& data);

  // The piece that is exactly this one character, or kNone. Never a special token.
  uint32_t piece_of(uint32_t code) const {
    const uint32_t page = code >> 8 < page_of_.size() ? page_of_[code >> 8] : kNone;
    return page == kNone ? kNone : pages_[page + (code & 0xFF)];
  }

  struct Symbol {
    uint32_t id = kNone;    // kNone: no piece, merges with nothing
    uint32_t begin = 0;     // bytes from the text's start
    bool verbatim = false;  // merges with nothing either
  };
  // What merging needs room for; one a thread, reused from word to word.
  struct Room {
    struct Link {  // a symbol in the chain of those that are still there
      uint32_t previous, next;
      uint32_t rank, result;  // of merging it with `next`; rank kNone: they do not merge
    };
    std::vector<Link> chain;
    std::vector<uint64_t> queue;  // rank << 32 | place, a heap with the least on top
  };

  // Merges neighbours in `word` until none can be, in place: lowest rank first, leftmost of equals.
  // Ranks are those of the merges (transformers) or of the pieces that result (SentencePiece).
  // O(n log n).
  enum class Order { merge_rank, piece_rank };
  void merge(std::vector<Symbol>& word, Order order, Room& room) const;

 private:
  void look_up(const std::vector<Symbol>& word, uint32_t at, Order order, Room& room) const;

  const TokenizerData& data_;
  std::vector<uint32_t> first_;    // [ids + 1]: where in data_.merges those of a left piece begin
  std::vector<uint32_t> page_of_;  // by code / 256: where in pages_, kNone: no piece there
  std::vector<uint32_t> pages_;
};

}  // namespace ng
