#include "text/sentencepiece.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr size_t kMostPieces = size_t{4} << 20;

// One protobuf message, field by field.
class Message {
 public:
  Message(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  // Steps to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    wire_ = tag & 7;
    check(field_ != 0, "{}: is not a SentencePiece model (field 0 at byte {})", what_, at_);
    switch (wire_) {
      case 0: value_ = varint(); break;
      case 1: text_ = take(8); break;
      case 2: text_ = take(varint()); break;
      case 5: text_ = take(4); break;
      default:
        fail("{}: is not a SentencePiece model (wire type {} at byte {})", what_, wire_, at_);
    }
    return true;
  }

  bool is(uint64_t field, uint64_t wire) const { return field_ == field && wire_ == wire; }
  uint64_t value() const { return value_; }
  std::string_view text() const { return text_; }
  float number() const {
    uint32_t bits = 0;
    std::memcpy(&bits, text_.data(), 4);
    return std::bit_cast<float>(bits);
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("{}: is not a SentencePiece model (a number of over 64 bits at byte {})", what_, at_);
  }

  std::string_view take(uint64_t size) {
    check(size <= bytes_.size() - at_, "{}: is cut short at byte {}", what_, at_);
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  std::string_view bytes_, what_, text_;
  size_t at_ = 0;
  uint64_t field_ = 0, wire_ = 0, value_ = 0;
};

SentencePieceModel::Piece read_piece(std::string_view bytes, size_t id, std::string_view what) {
  SentencePieceModel::Piece piece;
  Message message(bytes, what);
  while (message.next()) {
    if (message.is(1, 2)) piece.text = message.text();
    if (message.is(2, 5)) piece.score = message.number();
    if (message.is(3, 0)) {
      check(message.value() >= 1 && message.value() <= 6, "{}: piece {} has the unknown type {}",
            what, id, message.value());
      piece.type = static_cast<SentencePieceModel::Type>(message.value());
    }
  }
  check(!piece.text.empty() && is_valid_utf8(piece.text), "{}: piece {} is empty or not UTF-8",
        what, id);
  check(std::isfinite(piece.score), "{}: piece {} ('{}') has no finite score", what, id,
        shown(piece.text));
  check(piece.type != SentencePieceModel::Unused && piece.type != SentencePieceModel::Byte,
        "{}: piece {} ('{}') is {}; such pieces are not read", what, id, shown(piece.text),
        piece.type == SentencePieceModel::Byte ? "of byte fallback" : "unused");
  return piece;
}

void read_trainer(std::string_view bytes, std::string_view what, SentencePieceModel& model) {
  uint64_t type = 1;  // proto2's default
  bool suffix = false, byte_fallback = false;
  Message message(bytes, what);
  while (message.next()) {
    if (message.is(3, 0)) type = message.value();
    if (message.is(24, 0)) suffix = message.value() != 0;
    if (message.is(35, 0)) byte_fallback = message.value() != 0;
    if (message.is(44, 2)) model.unk_surface = message.text();
    if (message.is(45, 2)) model.unk_piece = message.text();
  }
  static constexpr const char* kNames[] = {"unknown", "unigram", "BPE", "word", "char"};
  check(type == 2, "{}: is a {} model; NLLB's is BPE, and only that is read", what,
        kNames[type <= 4 ? type : 0]);
  check(!byte_fallback, "{}: uses byte fallback, which is not read", what);
  check(!suffix, "{}: treats blanks as suffixes, which is not read", what);
  check(is_valid_utf8(model.unk_surface) && is_valid_utf8(model.unk_piece),
        "{}: the unknown piece's text is not UTF-8", what);
}

void read_normalizer(std::string_view bytes, std::string_view what, SentencePieceModel& model) {
  bool prefix = true, collapse = true, escape = true;  // proto2's defaults
  Message message(bytes, what);
  while (message.next()) {
    if (message.is(2, 2)) model.charsmap = message.text();
    if (message.is(3, 0)) prefix = message.value() != 0;
    if (message.is(4, 0)) collapse = message.value() != 0;
    if (message.is(5, 0)) escape = message.value() != 0;
  }
  check(prefix && collapse && escape,
        "{}: its normalizer sets add_dummy_prefix {}, remove_extra_whitespaces {}, "
        "escape_whitespaces {}; NLLB's sets all three, and only that is read",
        what, prefix, collapse, escape);
}

}  // namespace

SentencePieceModel read_sentencepiece(std::string_view bytes, std::string_view what) {
  SentencePieceModel model;
  std::string_view trainer, normalizer;
  Message message(bytes, what);
  while (message.next()) {
    if (message.is(1, 2)) {
      check(model.pieces.size() < kMostPieces, "{}: has over {} pieces", what, kMostPieces);
      model.pieces.push_back(read_piece(message.text(), model.pieces.size(), what));
    }
    if (message.is(2, 2)) trainer = message.text();
    if (message.is(3, 2)) normalizer = message.text();
  }
  read_trainer(trainer, what, model);
  read_normalizer(normalizer, what, model);
  check(model.pieces.size() > 3, "{}: has {} pieces only", what, model.pieces.size());
  return model;
}

}  // namespace ng
