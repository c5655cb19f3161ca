#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include <test_paths.h>
#include <fstream>
#include <numeric>
#include <thread>

#include "text/text_for_test.h"
#include "text/utf8.h"

namespace ng {
namespace {

using Ids = std::vector<int32_t>;
using testing::HasSubstr;

const Tokenizer& fixture() {
  static const Tokenizer kTokenizer = Tokenizer::open(tokenizer_testdata());
  return kTokenizer;
}

const Json& goldens() {
  static const Json kGoldens =
      parse_json(read_file(tokenizer_testdata() / "goldens.json", 1 << 20), "goldens.json");
  return kGoldens;
}

// goldens.json was written by transformers 4.57.6 and SentencePiece 0.2.
TEST(Tokenizer, EncodesAsTransformersAndSentencePiece) {
  for (const Json& golden : goldens()) {
    const std::string text = golden["text"];
    EXPECT_EQ(fixture().encode_content(text), golden["plain"].get<Ids>()) << text;
    EXPECT_EQ(fixture().encode_content(text, {Dialect::hf, true}), golden["special"].get<Ids>())
        << text;
    EXPECT_EQ(fixture().encode_content(text, {Dialect::sentencepiece}),
              golden["sentencepiece"].get<Ids>())
        << text;
  }
  EXPECT_GT(goldens().size(), 300U);
}

TEST(Tokenizer, DecodesAsTransformersAndSentencePiece) {
  for (const Json& golden : goldens()) {
    const Ids ids = golden["special"];
    EXPECT_EQ(fixture().decode(ids), golden["decoded"].get<std::string>());
    EXPECT_EQ(fixture().decode(ids, {Dialect::hf, false}), golden["shown"].get<std::string>());
    EXPECT_EQ(fixture().decode(golden["sentencepiece"].get<Ids>(), {Dialect::sentencepiece}),
              golden["sentencepiece_decoded"].get<std::string>());
  }
}

// The demo model's files have the character map that NLLB's have, nmt_nfkc.
TEST(Tokenizer, GivesTheSameIdsWithTheDemoModel) {
  const Tokenizer demo = Tokenizer::open(Path(NG_SOURCE_DIR) / "models/demo");
  const int32_t english = demo.language_id("eng_Latn");
  std::ifstream file(NG_SOURCE_DIR "/testdata/tokenizer_goldens.jsonl");
  std::string line;
  std::getline(file, line);  // versions
  int lines = 0;
  for (; std::getline(file, line); ++lines) {
    const Json golden = Json::parse(line);
    const std::string text = golden["text"];
    const Ids special = golden["special"];
    EXPECT_EQ(demo.frame(demo.encode_content(text, {Dialect::hf, true}), english), special) << text;
    EXPECT_EQ(demo.frame(demo.encode_content(text), english), golden["ids"].get<Ids>()) << text;
    EXPECT_EQ(demo.encode_content(text, {Dialect::sentencepiece}),
              golden["sentencepiece"].get<Ids>())
        << text;
    EXPECT_EQ(demo.decode(special), golden["decoded"].get<std::string>());
  }
  EXPECT_GT(lines, 40);
}

// The same pieces from sentencepiece.bpe.model alone, from tokenizer.json alone and from both.
TEST(Tokenizer, IsTheSameFromEitherFile) {
  const std::string both = fixture().serialize();
  for (const char* name : {"sentencepiece.bpe.model", "tokenizer.json"}) {
    const TemporaryDirectory folder;
    std::filesystem::copy_file(tokenizer_testdata() / name, folder.path / name);
    EXPECT_TRUE(Tokenizer::present(folder.path));
    const Tokenizer tokenizer = Tokenizer::open(folder.path);
    for (const Json& golden : goldens()) {
      EXPECT_EQ(tokenizer.encode_content(golden["text"].get<std::string>(), {Dialect::hf, true}),
                golden["special"].get<Ids>());
    }
    EXPECT_EQ(tokenizer.language_id("eng_Latn"), fixture().language_id("eng_Latn"));
    EXPECT_EQ(tokenizer.size(), 624U);
  }
}

TEST(Tokenizer, PlainTextNeverYieldsSpecialIds) {
  const std::string text = "</s> <s><pad> fra_Latn <mask> <unk> \uFF1C/s\uFF1E";
  for (const int32_t id : fixture().encode_content(text)) {
    EXPECT_TRUE(id == fixture().unk() || (id > 3 && id <= 420)) << id;
  }
  const Ids special = fixture().encode_content("a</s>", {Dialect::hf, true});
  EXPECT_EQ(special.back(), fixture().eos());
  EXPECT_THAT(refusal([] {
                fixture().encode_content("a", {Dialect::sentencepiece, true});
              }),
              HasSubstr("hf dialect"));
}

TEST(Tokenizer, FramesByTheCheckpointsBehaviour) {
  EXPECT_EQ(fixture().frame(Ids{7, 8}, 400), Ids({400, 7, 8, 2}));
  EXPECT_EQ(fixture().frame({}, 400), Ids({400, 2}));
  const TemporaryDirectory folder;
  std::filesystem::copy_file(tokenizer_testdata() / "tokenizer.json",
                             folder.path / "tokenizer.json");
  put_file(folder.path / "tokenizer_config.json", R"({"legacy_behaviour": true})");
  const Tokenizer legacy = Tokenizer::open(folder.path);
  EXPECT_TRUE(legacy.legacy());
  EXPECT_EQ(legacy.frame(Ids{7, 8}, 400), Ids({7, 8, 2, 400}));
  EXPECT_EQ(Tokenizer::parse(legacy.serialize()).frame(Ids{7}, 400), Ids({7, 2, 400}));
}

TEST(Tokenizer, CleansUpWhereTheCheckpointAsksForIt) {
  const TemporaryDirectory folder;
  std::filesystem::copy_file(tokenizer_testdata() / "tokenizer.json",
                             folder.path / "tokenizer.json");
  put_file(folder.path / "tokenizer_config.json", R"({"clean_up_tokenization_spaces": true})");
  const Tokenizer cleaning = Tokenizer::open(folder.path);
  const Ids ids = fixture().encode_content("It rained , then ? stopped .");
  EXPECT_THAT(fixture().decode(ids), HasSubstr(" ,"));
  EXPECT_THAT(cleaning.decode(ids), testing::Not(HasSubstr(" ,")));
  EXPECT_THAT(cleaning.decode(ids), testing::EndsWith("stopped."));
}

TEST(Tokenizer, KnowsItsLanguages) {
  EXPECT_EQ(fixture().languages().size(), 202U);
  EXPECT_EQ(fixture().languages().front().code, "ace_Arab");
  EXPECT_EQ(fixture().language_id("ace_Arab"), 421);
  EXPECT_EQ(fixture().language_id("eng_Latn"), 421 + 46);
  EXPECT_EQ(fixture().language_id("sat_Olck"), fixture().language_id("sat_Beng"));
  EXPECT_EQ(fixture().piece(fixture().language_id("zul_Latn")), "zul_Latn");
  const std::string message = refusal([] { fixture().language_id("french"); });
  EXPECT_THAT(message, HasSubstr("'french'"));
  EXPECT_THAT(message, HasSubstr("fra_Latn (French)"));
  EXPECT_THAT(refusal([] { fixture().language_id("</s>"); }), HasSubstr("no language"));
}

TEST(Tokenizer, DropsIdsWithoutToken) {
  const Ids ids = {INT32_MIN, -1, 1 << 30, INT32_MAX, static_cast<int32_t>(fixture().size())};
  for (const auto dialect : {Dialect::hf, Dialect::sentencepiece}) {
    EXPECT_EQ(fixture().decode(ids, {dialect, false}), "");
  }
  EXPECT_EQ(fixture().piece(-1), "");
}

TEST(Tokenizer, OffsetsAreWhereTokensBegin) {
  for (const Json& golden : goldens()) {
    const std::string text = golden["text"];
    for (const auto dialect : {Dialect::hf, Dialect::sentencepiece}) {
      const Encoded encoded = fixture().encode_with_offsets(text, {dialect});
      EXPECT_EQ(encoded.ids, fixture().encode_content(text, {dialect}));
      ASSERT_EQ(encoded.offsets.size(), encoded.ids.size());
      EXPECT_TRUE(std::ranges::is_sorted(encoded.offsets));
      for (const uint32_t at : encoded.offsets) {
        ASSERT_LT(at, text.size());
        EXPECT_NE(text[at] & 0xC0, 0x80) << text << " at " << at;
      }
    }
  }
  const Encoded encoded = fixture().encode_with_offsets("The  children");
  ASSERT_GE(encoded.ids.size(), 2U);
  EXPECT_EQ(encoded.offsets[0], 0U);
  EXPECT_THAT(encoded.offsets, testing::Contains(3U));  // the blanks belong to the second word
}

TEST(Tokenizer, InvalidBytesCountAsReplacementCharacters) {
  const std::string text = "a\xFFz \xE2\x82";
  for (const auto dialect : {Dialect::hf, Dialect::sentencepiece}) {
    EXPECT_EQ(fixture().encode_content(text, {dialect}),
              fixture().encode_content(repair_utf8(text), {dialect}));
  }
  EXPECT_THAT(refusal([] { fixture().encode_content(std::string((64 << 20) + 1, 'a')); }),
              HasSubstr("67108864"));
}

TEST(Tokenizer, StoredFormIsExact) {
  const std::string bytes = fixture().serialize();
  const Tokenizer stored = Tokenizer::parse(bytes);
  EXPECT_EQ(stored.serialize(), bytes);
  EXPECT_EQ(Tokenizer::open(tokenizer_testdata()).serialize(), bytes);
  for (const Json& golden : goldens()) {
    const std::string text = golden["text"];
    EXPECT_EQ(stored.encode_content(text, {Dialect::hf, true}), golden["special"].get<Ids>());
    EXPECT_EQ(stored.encode_content(text, {Dialect::sentencepiece}),
              golden["sentencepiece"].get<Ids>());
  }
  EXPECT_EQ(stored.languages().size(), 202U);
}

TEST(Tokenizer, StoredFormOfAnotherVersionSaysWhatToDo) {
  std::string bytes = fixture().serialize();
  bytes[7] = 9;
  EXPECT_THAT(refusal([&] { Tokenizer::parse(bytes, "bundle"); }),
              HasSubstr("compile the model again"));
  EXPECT_THAT(refusal([&] { Tokenizer::parse("PK", "bundle"); }), HasSubstr("bundle"));
  EXPECT_THAT(refusal([&] { Tokenizer::parse(fixture().serialize() + "x"); }),
              HasSubstr("its end"));
}

TEST(Tokenizer, StoredFormSurvivesDamage) {
  const std::string text = goldens().back()["text"].get<std::string>() + " The  \u2026 houses </s>";
  expect_survives(fixture().serialize(), 3000, [&](std::span<const std::byte> bytes) {
    const Tokenizer tokenizer =
        Tokenizer::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    for (const EncodeOptions& options :
         {EncodeOptions{Dialect::hf, true}, {Dialect::sentencepiece}}) {
      const Encoded encoded = tokenizer.encode_with_offsets(text, options);
      EXPECT_TRUE(is_valid_utf8(tokenizer.decode(encoded.ids, {options.dialect, false})));
    }
  });
}

TEST(Tokenizer, ServesSeveralThreads) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([t, &wrong] {
      for (const Json& golden : goldens()) {
        const std::string text = golden["text"];
        wrong[t] += fixture().encode_content(text) != golden["plain"].get<Ids>();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::accumulate(wrong.begin(), wrong.end(), 0), 0);
}

}  // namespace
}  // namespace ng
