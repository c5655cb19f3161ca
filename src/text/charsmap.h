// What does SentencePiece's precompiled character map replace a prefix of a text with?
//
// Blob: u32 LE bytes of trie; the trie, a darts-clone double array of u32 LE units; the replacement
// strings, each ended by NUL. It comes from strangers: every index is checked where it is used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

class Charsmap {
 public:
  // An empty blob replaces nothing. Throws User, naming `what`, when the blob is cut short, is not
  // UTF-8 or has no root.
  Charsmap(std::string_view blob, std::string_view what);

  struct Match {
    size_t size = 0;  // bytes of the text that match; 0 = none do
    std::string_view replacement;
  };
  Match shortest(std::string_view text) const { return find(text, true); }
  Match longest(std::string_view text) const { return find(text, false); }
  // Whether `c` is printable ASCII that maps to itself.
  bool keeps(char c) const { return keeps_[static_cast<unsigned char>(c)]; }

 private:
  Match find(std::string_view text, bool first) const;

  std::vector<uint32_t> units_;
  std::string strings_;
  std::array<bool, 256> keeps_{};
};

}  // namespace ng
