#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "base/json.h"
#include "text/split.h"
#include "text/utf8.h"

namespace ng {
namespace {

const Path kDemo = Path(NG_SOURCE_DIR) / "models/demo";

const Tokenizer& demo() {
  static const Tokenizer tokenizer = Tokenizer::open(kDemo);
  return tokenizer;
}

std::vector<Json> goldens() {
  const std::string text =
      read_file(Path(NG_SOURCE_DIR) / "testdata/tokenizer_goldens.jsonl", size_t{1} << 20);
  std::vector<Json> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    lines.push_back(Json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return lines;
}

using Ids = std::vector<int32_t>;

TEST(Tokenizer, GivesTheIdsOfTransformersAndSentencePiece) {
  const int32_t english = demo().language_id("eng_Latn");
  const auto lines = goldens();
  ASSERT_GT(lines.size(), 40U);
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto text = lines[i]["text"].get<std::string>();
    SCOPED_TRACE(lines[i]["text"].dump());
    const auto special = lines[i]["special"].get<Ids>();
    EXPECT_EQ(demo().frame(demo().encode_content(text, {Dialect::hf, true}), english), special);
    EXPECT_EQ(demo().frame(demo().encode_content(text), english), lines[i]["ids"].get<Ids>());
    EXPECT_EQ(demo().encode_content(text, {Dialect::sentencepiece, false}),
              lines[i]["sentencepiece"].get<Ids>());
    EXPECT_EQ(demo().decode(special), lines[i]["decoded"].get<std::string>());
  }
}

TEST(Tokenizer, IsTheSameAfterASerializedRoundTrip) {
  const std::string bytes = demo().serialize();
  const Tokenizer copy = Tokenizer::parse(bytes);
  EXPECT_EQ(copy.serialize(), bytes);
  for (const Json& line : goldens()) {
    if (!line.contains("text")) continue;
    const auto text = line["text"].get<std::string>();
    EXPECT_EQ(copy.encode_content(text), demo().encode_content(text));
  }
}

// Any damage is refused as User, or gives a tokenizer that works.
template <class Parse>
void expect_survives(const std::string& valid, int cases, Parse parse) {
  std::mt19937 random(3);
  for (int i = 0; i < cases; ++i) {
    std::string damaged = valid;
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      const size_t at = random() % 3 == 0 ? random() % damaged.size()
                                          : random() % std::min<size_t>(damaged.size(), 300);
      damaged[at] = static_cast<char>(random());
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    try {
      parse(damaged);
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), Error::Kind::User) << error.what();
    }
  }
}

TEST(Tokenizer, SerializedFormSurvivesDamage) {
  expect_survives(demo().serialize(), 150, [](const std::string& bytes) {
    const Tokenizer tokenizer = Tokenizer::parse(bytes);
    tokenizer.decode(tokenizer.encode_content("Hello world."));
  });
}

TEST(Tokenizer, FilesSurviveDamage) {
  const Path folder = Path(testing::TempDir()) / "damaged_tokenizer";
  for (const char* name : {"sentencepiece.bpe.model", "tokenizer.json"}) {
    expect_survives(read_file(kDemo / name, size_t{4} << 20), 40, [&](const std::string& bytes) {
      std::filesystem::remove_all(folder);
      std::filesystem::create_directories(folder);
      std::filesystem::copy(kDemo / "tokenizer_config.json", folder / "tokenizer_config.json");
      write_file(folder / name, bytes);
      Tokenizer::open(folder).encode_content("Hello world.");
    });
  }
}

TEST(Tokenizer, FilesThatDisagreeAreRefused) {
  const Path folder = Path(testing::TempDir()) / "disagreeing_tokenizer";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::filesystem::copy(kDemo / "sentencepiece.bpe.model", folder / "sentencepiece.bpe.model");
  std::string json = read_file(kDemo / "tokenizer.json", size_t{4} << 20);
  const size_t at = json.find("\"▁the\"");
  ASSERT_NE(at, std::string::npos);
  json.replace(at, std::string("\"▁the\"").size(), "\"▁thf\"");
  write_file(folder / "tokenizer.json", json);
  EXPECT_THROW(Tokenizer::open(folder), Error);
}

TEST(Tokenizer, NamesLanguagesThatComeClose) {
  try {
    demo().language_id("fra_Lat");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("fra_Latn"), std::string::npos) << error.what();
  }
  EXPECT_EQ(demo().language_id("sat_Olck"), demo().language_id("sat_Beng"));
}

TEST(SplitToFit, LosesNothingButBlanksAtTheCutsAndKeepsTheLimit) {
  std::mt19937 random(9);
  const std::string parts[] = {"word", " ", " ",          "é",          "今日",
                               "  ",   ".", "longerword", "👩‍👧"};
  for (int i = 0; i < 200; ++i) {
    std::string text = "x";
    for (unsigned n = random() % 60; n > 0; --n) text += parts[random() % std::size(parts)];
    text += "x";
    const size_t most = 3 + random() % 12;
    std::string joined, expected;
    for (const TextPiece& piece : split_to_fit(demo(), text, most)) {
      EXPECT_LE(demo().encode_content(piece.text).size(), std::max<size_t>(most, 8));
      EXPECT_TRUE(is_valid_utf8(piece.text));
      joined += piece.text;
    }
    std::erase(joined, ' ');
    for (char c : text) expected += c == ' ' ? "" : std::string(1, c);
    EXPECT_EQ(joined, expected);
  }
}

TEST(Utf8, EveryScalarComesBack) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    const Scalar scalar = decode_utf8(text, 0);
    ASSERT_TRUE(scalar.valid && scalar.code == code && scalar.size == text.size()) << code;
  }
}

TEST(Utf8, RepairedTextIsValidAndValidTextStays) {
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    std::string text(random() % 12, ' ');
    for (char& c : text)
      c = static_cast<char>(random() % 3 == 0 ? random() : 0x80 | random() % 128);
    const std::string repaired = repair_utf8(text);
    ASSERT_TRUE(is_valid_utf8(repaired));
    ASSERT_EQ(is_valid_utf8(text), repaired == text);
  }
}

}  // namespace
}  // namespace ng
