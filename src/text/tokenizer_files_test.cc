#include "text/tokenizer_files.h"

#include <gmock/gmock.h>

#include "text/text_for_test.h"
#include "text/tokenizer.h"

namespace ng {
namespace {

using testing::HasSubstr;

std::string fixture_text() { return read_file(tokenizer_testdata() / "tokenizer.json", 1 << 20); }

const Json& fixture() {
  static const Json kFixture = parse_json(fixture_text(), "fixture");
  return kFixture;
}

// What is said of the fixture's tokenizer.json after `edit`.
template <class Edit>
std::string refused(const Edit& edit) {
  Json json = fixture();
  edit(json);
  return refusal([&] { read_tokenizer_json(json.dump(), "the.json"); });
}

// A directory with the fixture's files, each of which a test may replace.
struct Directory : TemporaryDirectory {
  explicit Directory(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      std::filesystem::copy_file(tokenizer_testdata() / name, path / name);
    }
  }
  void put(const char* name, const Json& json) const { put_file(path / name, json.dump()); }
};

TEST(TokenizerJson, ReadsBothFormsOfMerges) {
  Json strings = fixture();
  for (Json& merge : strings["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const TokenizerData a = read_tokenizer_json(fixture().dump(), "lists");
  const TokenizerData b = read_tokenizer_json(strings.dump(), "strings");
  ASSERT_EQ(a.merges.size(), fixture()["model"]["merges"].size());
  EXPECT_TRUE(std::ranges::equal(a.merges, b.merges, [](const Merge& x, const Merge& y) {
    return x.left == y.left && x.right == y.right && x.result == y.result && x.rank == y.rank;
  }));
  EXPECT_EQ(a.steps.size(), 3U);
  EXPECT_EQ(a.unk, 3U);
}

TEST(TokenizerJson, RefusesByNameWhatItDoesNotRead) {
  const auto model = [](const char* key, const Json& value) {
    return refused([&](Json& json) { json["model"][key] = value; });
  };
  EXPECT_THAT(model("type", "Unigram"), HasSubstr("Unigram"));
  EXPECT_THAT(model("byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(model("ignore_merges", true), HasSubstr("ignore_merges"));
  EXPECT_THAT(model("fuse_unk", false), HasSubstr("fuse_unk"));
  EXPECT_THAT(model("dropout", 0.1), HasSubstr("dropout"));
  EXPECT_THAT(model("end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(model("unk_token", "nothing"), HasSubstr("'nothing'"));
  EXPECT_THAT(model("merges", Json::array({"a b c"})), HasSubstr("a b c"));
  EXPECT_THAT(model("merges", Json::array({"a \U0001F980"})), HasSubstr("\U0001F980"));
  EXPECT_THAT(model("merges", nullptr), HasSubstr("merges"));
  const auto normalizer = [](const char* text) {
    return refused([&](Json& json) { json["normalizer"] = Json::parse(text); });
  };
  EXPECT_THAT(normalizer(R"({"type": "NFKC"})"), HasSubstr("NFKC"));
  EXPECT_THAT(normalizer(R"({"type": "Replace", "pattern": {"Regex": "[\n]"}, "content": " "})"),
              HasSubstr("Regex"));
  EXPECT_THAT(normalizer(R"({"type": "Precompiled", "precompiled_charsmap": "a?b="})"),
              HasSubstr("base64"));
  EXPECT_THAT(refused([](Json& json) { json["pre_tokenizer"]["prepend_scheme"] = "first"; }),
              HasSubstr("first"));
  EXPECT_THAT(refused([](Json& json) { json["pre_tokenizer"] = nullptr; }), HasSubstr("Metaspace"));
  EXPECT_THAT(refused([](Json& json) { json["decoder"]["type"] = "ByteLevel"; }),
              HasSubstr("ByteLevel"));
  EXPECT_THAT(refused([](Json& json) { json["added_tokens"][0]["single_word"] = true; }),
              HasSubstr("single_word"));
}

TEST(TokenizerJson, RefusesIdsThatCannotBe) {
  const auto id_of_a = [](const Json& id) {
    return refused([&](Json& json) { json["model"]["vocab"]["a"] = id; });
  };
  EXPECT_THAT(id_of_a(-1), HasSubstr("'a'"));
  EXPECT_THAT(id_of_a(4), HasSubstr("both have the id 4"));
  EXPECT_THAT(id_of_a(1 << 30), HasSubstr("'a'"));
  EXPECT_THAT(id_of_a(1.5), HasSubstr("'a'"));
  EXPECT_THAT(refused([](Json& json) { json["model"]["vocab"] = Json::object(); }),
              HasSubstr("vocab"));
}

TEST(TokenizerJson, SurvivesDamage) {
  Json json = fixture();
  json["normalizer"] = nullptr;  // base64 would take most of the damage
  expect_survives(json.dump(), 600, [](std::span<const std::byte> bytes) {
    TokenizerData data =
        read_tokenizer_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "damaged");
    settle_added(data, "damaged");
  });
}

TEST(TokenizerFiles, NamesWhatItLookedFor) {
  const TemporaryDirectory folder;
  EXPECT_FALSE(Tokenizer::present(folder.path));
  const std::string message = refusal([&] { read_tokenizer_files(folder.path); });
  EXPECT_THAT(message, HasSubstr("tokenizer.json"));
  EXPECT_THAT(message, HasSubstr("sentencepiece.bpe.model"));
  const Directory m2m({"sentencepiece.bpe.model"});
  m2m.put("vocab.json", {{"a", 1}});
  EXPECT_THAT(refusal([&] { read_tokenizer_files(m2m.path); }), HasSubstr("M2M100"));
  EXPECT_FALSE(Tokenizer::present(m2m.path));
  std::filesystem::remove(m2m.path / "vocab.json");
  EXPECT_TRUE(Tokenizer::present(m2m.path));
}

TEST(TokenizerFiles, BothFilesMustAgree) {
  const auto differs = [](const auto& edit) {
    const Directory folder({"sentencepiece.bpe.model"});
    Json json = fixture();
    edit(json);
    folder.put("tokenizer.json", json);
    return refusal([&] { read_tokenizer_files(folder.path); });
  };
  EXPECT_THAT(differs([](Json& json) {
                const Json id = json["model"]["vocab"]["e"];
                json["model"]["vocab"].erase("e");
                json["model"]["vocab"]["\U0001F980"] = id;
                json["model"]["merges"] = Json::array();
              }),
              HasSubstr("is '\U0001F980' in one, 'e' in the other"));
  EXPECT_THAT(differs([](Json& json) { json["model"]["merges"].erase(5); }),
              HasSubstr("only one merges"));
  EXPECT_THAT(differs([](Json& json) {
                Json& merges = json["model"]["merges"];
                std::swap(merges[0], merges[merges.size() - 1]);
              }),
              HasSubstr("before"));
  EXPECT_THAT(differs([](Json& json) { json["normalizer"] = nullptr; }),
              HasSubstr("character maps"));
}

TEST(TokenizerFiles, PiecesThatOnlyTheJsonHasAreRefused) {
  const auto read = [](const auto& edit) {
    const Directory folder({"sentencepiece.bpe.model", "tokenizer_config.json"});
    Json json = fixture();
    edit(json);
    folder.put("tokenizer.json", json);
    return error_of([&] { read_tokenizer_files(folder.path); });
  };
  EXPECT_EQ(read([](Json&) {}), "");
  EXPECT_THAT(read([](Json& json) { json["model"]["vocab"]["qqqzz"] = 624; }),
              HasSubstr("the piece 'qqqzz' (id 624) is only in the first"));
  EXPECT_THAT(read([](Json& json) {
                json["model"]["vocab"].erase("<mask>");
                json["model"]["vocab"]["\u2581zzzz"] = 623;
              }),
              HasSubstr("'\u2581zzzz'"));
  const auto added = [](Json& json, int id) {
    json["added_tokens"].push_back({{"content", "Neuroglot"}, {"id", id}, {"special", false}});
  };
  EXPECT_THAT(read([&](Json& json) { added(json, 100); }),
              HasSubstr("the id 100 is both the piece '"));
  EXPECT_EQ(read([&](Json& json) { added(json, 624); }), "");
  EXPECT_EQ(read([&](Json& json) {
              added(json, 624);
              json["model"]["vocab"]["Neuroglot"] = 624;
            }),
            "");
}

TEST(TokenizerFiles, FilesThatWereNotFetchedAreNamed) {
  const TemporaryDirectory folder;
  for (const char* name : {"tokenizer.json", "sentencepiece.bpe.model"}) {
    put_file(folder.path / name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    EXPECT_THAT(refusal([&] { read_tokenizer_files(folder.path); }),
                HasSubstr(fmt::format("{}: is a git-lfs pointer", name)));
    put_file(folder.path / name, "");
    EXPECT_THAT(refusal([&] { read_tokenizer_files(folder.path); }),
                HasSubstr(fmt::format("{}: is empty", name)));
    std::filesystem::remove(folder.path / name);
  }
}

TEST(TokenizerFiles, AFineTunesTokensAreFound) {
  const Directory folder({"tokenizer.json"});
  Json json = fixture();
  const auto token = [](const char* content, int id, bool special) {
    return Json{{"content", content}, {"id", id}, {"special", special}, {"normalized", false}};
  };
  json["added_tokens"].push_back(token("xyz_Latn", 624, true));
  json["added_tokens"].push_back(token("Neuroglot", 625, false));
  folder.put("tokenizer.json", json);
  const Tokenizer tokenizer = Tokenizer::open(folder.path);
  EXPECT_EQ(tokenizer.size(), 626U);
  EXPECT_EQ(tokenizer.language_id("xyz_Latn"), 624);
  EXPECT_THAT(tokenizer.encode_content("the Neuroglot"), testing::Contains(625));
  EXPECT_THAT(tokenizer.encode_content("xyz_Latn"), testing::Not(testing::Contains(624)));
}

// transformers' converter gives BARThez's own <mask> and ace_Arab one id: both are found, the later
// of them, <mask>, is shown and has its way with blanks.
TEST(TokenizerFiles, AMaskAmongThePiecesSharesItsId) {
  const Directory folder({"tokenizer.json"});
  Json json = fixture();
  Json& added = json["added_tokens"];
  std::erase_if(added.get_ref<Json::array_t&>(),
                [](const Json& token) { return token["content"] == "<mask>"; });
  json["model"]["vocab"]["<mask>"] = 421;
  folder.put("tokenizer.json", json);
  const Tokenizer tokenizer = Tokenizer::open(folder.path);
  EXPECT_EQ(tokenizer.language_id("ace_Arab"), 421);
  std::vector<int32_t> expected = tokenizer.encode_content("the");
  expected.insert(expected.end(), {421, 421});
  EXPECT_EQ(tokenizer.encode_content("the <mask> ace_Arab", {Dialect::hf, true}), expected);
  const Tokenizer stored = Tokenizer::parse(tokenizer.serialize());
  EXPECT_EQ(stored.encode_content("the <mask> ace_Arab", {Dialect::hf, true}), expected);
  EXPECT_EQ(tokenizer.piece(421), "<mask>");
  added.push_back({{"id", 421}, {"content", "other"}, {"special", true}});
  folder.put("tokenizer.json", json);
  EXPECT_THAT(refusal([&] { read_tokenizer_files(folder.path); }), HasSubstr("is both"));
}

// Flags of tokenizer_config.json are newer than those of tokenizer.json; ids must be the same.
TEST(TokenizerFiles, ConfiguredTokensGoOverTheOthers) {
  const Directory folder({"tokenizer.json"});
  Json config = parse_json(read_file(tokenizer_testdata() / "tokenizer_config.json", 1 << 20), "");
  config["added_tokens_decoder"]["623"]["special"] = false;
  folder.put("tokenizer_config.json", config);
  EXPECT_EQ(Tokenizer::open(folder.path).decode(std::vector<int32_t>{623}), "<mask>");
  config["added_tokens_decoder"]["700"] = config["added_tokens_decoder"]["623"];
  folder.put("tokenizer_config.json", config);
  EXPECT_THAT(refusal([&] { Tokenizer::open(folder.path); }), HasSubstr("'<mask>' has the ids"));
}

TEST(TokenizerFiles, OldAddedTokensAreRead) {
  const Directory folder({"sentencepiece.bpe.model"});
  folder.put("added_tokens.json", {{"eng_Latn", 421}, {"fra_Latn", 422}, {"word", 423}});
  folder.put("special_tokens_map.json", {{"additional_special_tokens", {"eng_Latn", "fra_Latn"}}});
  const Tokenizer tokenizer = Tokenizer::open(folder.path);
  EXPECT_EQ(tokenizer.languages().size(), 2U);
  EXPECT_EQ(tokenizer.language_id("fra_Latn"), 422);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{421, 423}), "word");
  EXPECT_EQ(tokenizer.size(), 424U);
}

TEST(TokenizerFiles, SpecialTokensMayHaveOtherNames) {
  const Directory folder({"tokenizer.json"});
  folder.put("tokenizer_config.json",
             {{"eos_token", {{"content", "<pad>"}}}, {"pad_token", "</s>"}});
  EXPECT_EQ(Tokenizer::open(folder.path).eos(), 1);
  EXPECT_EQ(Tokenizer::open(folder.path).pad(), 2);
  folder.put("tokenizer_config.json", {{"eos_token", "<end>"}});
  EXPECT_THAT(refusal([&] { Tokenizer::open(folder.path); }), HasSubstr("'<end>'"));
}

}  // namespace
}  // namespace ng
