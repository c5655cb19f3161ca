#include "text/sentencepiece.h"

#include "text/text_for_test.h"

namespace ng {
namespace {

std::string fixture() {
  return read_file(tokenizer_testdata() / "sentencepiece.bpe.model", 1 << 20);
}

std::string field(int number, int wire, std::string_view value) {
  std::string bytes(1, static_cast<char>(number % 16 << 3 | wire));
  if (number >= 16)
    bytes = {static_cast<char>(number % 16 << 3 | wire | 0x80), static_cast<char>(number / 16)};
  if (wire == 2) bytes += static_cast<char>(value.size());
  return bytes.append(value);
}

std::string piece(std::string_view text, char type = 1) {
  return field(1, 2, field(1, 2, text) + field(3, 0, {&type, 1}));
}

// Four pieces of a BPE model; `rest` follows.
std::string small_model(std::string_view rest = "", char type = 2) {
  return piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("a") +
         field(2, 2, field(3, 0, {&type, 1})) + std::string(rest);
}

std::string refused(const std::string& bytes) {
  return refusal([&] { read_sentencepiece(bytes, "the.model"); });
}

TEST(SentencePiece, ReadsPiecesScoresAndCharacterMap) {
  const SentencePieceModel model = read_sentencepiece(fixture(), "fixture");
  EXPECT_EQ(model.pieces.size(), 420U);
  EXPECT_EQ(model.pieces[0].text, "<unk>");
  EXPECT_EQ(model.pieces[0].type, SentencePieceModel::Unknown);
  EXPECT_EQ(model.pieces[2].type, SentencePieceModel::Control);
  EXPECT_EQ(model.pieces[4].score, -1.0f);
  EXPECT_EQ(model.unk_surface, " \u2047 ");
  EXPECT_GT(model.charsmap.size(), 1000U);
}

TEST(SentencePiece, SkipsFieldsItDoesNotKnow) {
  const std::string unknown = field(99, 2, "what is this") + field(100, 0, "\x7F") +
                              field(101, 5, "1234") + field(102, 1, "12345678");
  EXPECT_EQ(read_sentencepiece(small_model(unknown), "small").pieces.size(), 4U);
}

TEST(SentencePiece, RefusesByNameWhatNllbIsNot) {
  EXPECT_NE(refused(small_model("", 1)).find("unigram"), std::string::npos);
  EXPECT_NE(refused(small_model("", 4)).find("char"), std::string::npos);
  EXPECT_NE(refused(small_model("", 99)).find("unknown"), std::string::npos);
  const std::string no_type = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("a");
  EXPECT_NE(refused(no_type).find("unigram"), std::string::npos);  // proto2's default
  EXPECT_NE(refused(small_model(piece("<0x0A>", 6))).find("byte fallback"), std::string::npos);
  EXPECT_NE(refused(small_model(piece("b", 5))).find("unused"), std::string::npos);
  EXPECT_NE(refused(small_model(field(3, 2, field(3, 0, {"\0", 1})))).find("add_dummy_prefix"),
            std::string::npos);
  EXPECT_NE(refused(piece("<unk>", 2)).find("unigram"), std::string::npos);
}

TEST(SentencePiece, RefusesBrokenPieces) {
  EXPECT_NE(refused(small_model(piece("\xFF"))).find("UTF-8"), std::string::npos);
  EXPECT_NE(refused(small_model(piece(""))).find("empty"), std::string::npos);
  EXPECT_NE(refused(small_model(piece("b", 9))).find("type 9"), std::string::npos);
  const std::string infinite = field(1, 2, field(1, 2, "b") + field(2, 5, {"\0\0\x80\x7F", 4}));
  EXPECT_NE(refused(small_model(infinite)).find("score"), std::string::npos);
  EXPECT_NE(refused("not a model").find("the.model"), std::string::npos);
}

TEST(SentencePiece, SurvivesDamage) {
  expect_survives(fixture(), 3000, [](std::span<const std::byte> bytes) {
    read_sentencepiece({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "damaged");
  });
}

TEST(SentencePiece, RefusesTheOtherKindsOfModelInShared) {
  for (const auto& [name, kind] : {std::pair("test_sentencepiece.model", "unigram"),
                                   {"test_sentencepiece_no_bos.model", "unigram"},
                                   {"test_sentencepiece_bpe_char.model", "char"},
                                   {"test_sentencepiece_with_bytefallback.model", ""}}) {
    const auto path = shared_file(std::string("data/vectors/") + name);
    if (!path) GTEST_SKIP() << "no " << name;
    const std::string message = refused(read_file(*path, 1 << 20));
    EXPECT_NE(message.find(kind), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace ng
