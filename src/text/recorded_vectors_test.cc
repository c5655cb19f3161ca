// Do we give what others recorded? The sections of ../shared/data/vectors, as testdata/
// recorded_vectors.txt lists them; a section that it does not list fails.
#include <gmock/gmock.h>

#include <test_paths.h>
#include <fstream>
#include <map>
#include <sstream>

#include "base/json.h"
#include "text/charsmap.h"
#include "text/languages.h"
#include "text/normalize.h"
#include "text/text_for_test.h"
#include "text/tokenizer.h"

namespace ng {
namespace {

using Ids = std::vector<int32_t>;

// Section → here | skipped | elsewhere.
std::map<std::string, std::string> listed() {
  std::map<std::string, std::string> sections;
  std::ifstream file(Path(NG_SOURCE_DIR) / "testdata/recorded_vectors.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name, state;
    if (words >> name >> state && name[0] != '#') sections[name] = state;
  }
  return sections;
}

class RecordedVectors : public testing::Test {
 protected:
  void SetUp() override {
    const auto hf = shared_file("data/vectors/hf_vectors.json");
    const auto oracle = shared_file("data/vectors/spm_oracle_vectors.json");
    if (!hf || !oracle) GTEST_SKIP() << "../shared/data/vectors is absent";
    hf_ = parse_json(read_file(*hf, 16 << 20), hf->string());
    oracle_ = parse_json(read_file(*oracle, 16 << 20), oracle->string());
    folder_ = hf->parent_path();
  }
  Json hf_, oracle_;
  Path folder_;
};

TEST_F(RecordedVectors, AreAllListed) {
  std::vector<std::string> names, known;
  for (const auto& [name, section] : hf_.items()) names.push_back(name);
  for (const auto& [name, section] : oracle_["models"].items()) names.push_back(name);
  for (const auto& [name, state] : listed()) {
    EXPECT_THAT(state, testing::AnyOf("here", "skipped", "elsewhere")) << name;
    known.push_back(name);
  }
  EXPECT_THAT(names, testing::UnorderedElementsAreArray(known));
}

TEST_F(RecordedVectors, LanguageIdsOfNllb) {
  const Json& section = hf_["nllb_tokenizer_hf"];
  for (const auto& [code, id] : section["language_ids"].items()) {
    const auto found = std::ranges::find(nllb_languages(), code, &Language::code);
    EXPECT_EQ(256001 + (found - nllb_languages().begin()), id.get<int>()) << code;
  }
  EXPECT_EQ(256001 + nllb_languages().size() + 1, section["sizes"]["len_default"].get<size_t>());
}

TEST_F(RecordedVectors, PrecompiledCharacterMap) {
  const Json& section = hf_["spm_precompiled"];
  const Charsmap map(read_file(folder_ / "spm_precompiled_nmt_nfkc.bin", 1 << 20), "charsmap");
  for (const Json& entry : section["trie"]) {
    std::string key = entry.value("key", "");
    for (const Json& byte : entry.value("key_bytes", Json::array())) {
      key += static_cast<char>(byte.get<int>());
    }
    EXPECT_EQ(map.shortest(key).size > 0, !entry["first_value"].is_null()) << key;
    if (entry.contains("text")) {
      EXPECT_EQ(map.shortest(key).replacement, entry["text"].get<std::string>());
    }
  }
  const std::vector<NormalizerStep> steps(1);
  for (const Json& entry : section["normalize"]) {
    const std::string text = entry["in"];
    EXPECT_EQ(normalize_hf({text}, steps, map).text, entry["out"].get<std::string>()) << text;
  }
}

// Raw SentencePiece ids: ours are those + 1, its unk 0 is our 3.
TEST_F(RecordedVectors, SentencePieceIds) {
  for (const auto& [name, cases] : oracle_["models"].items()) {
    if (listed()[name] != "here") continue;
    const TemporaryDirectory folder;
    std::filesystem::copy_file(folder_ / name, folder.path / "sentencepiece.bpe.model");
    const Tokenizer tokenizer = Tokenizer::open(folder.path);
    for (const Json& entry : cases) {
      Ids expected = entry["ids"];
      for (int32_t& id : expected) id = id == 0 ? 3 : id + 1;
      EXPECT_EQ(
          tokenizer.encode_content(entry["text"].get<std::string>(), {Dialect::sentencepiece}),
          expected)
          << entry["text"];
      EXPECT_EQ(tokenizer.decode(expected, {Dialect::sentencepiece}),
                entry["decoded_from_ids"].get<std::string>());
    }
    EXPECT_GT(cases.size(), 50U);
  }
}

}  // namespace
}  // namespace ng
