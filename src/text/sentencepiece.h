// What does a SentencePiece .model file say? A bounded reader of that one protobuf message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

struct SentencePieceModel {
  enum Type { Normal = 1, Unknown = 2, Control = 3, UserDefined = 4, Unused = 5, Byte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Normal;
  };
  std::vector<Piece> pieces;
  std::string unk_piece = "<unk>";
  std::string unk_surface = " \u2047 ";
  std::string charsmap;  // precompiled; see Charsmap
};

// Reads the pieces, the trainer's and the normalizer's settings; unknown fields are skipped. What
// this project does not do is refused by name (User, `what` names the file): models that are not
// BPE, byte fallback, unused pieces, a normalizer that does not add and escape blanks as NLLB's.
SentencePieceModel read_sentencepiece(std::string_view bytes, std::string_view what);

}  // namespace ng
