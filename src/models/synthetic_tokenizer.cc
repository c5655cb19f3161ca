#include "models/synthetic_tokenizer.h"

#include <bit>
#include <set>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"

namespace ng {
namespace {

struct Range {
  char32_t first, last;
};

// Letters and marks of many scripts; ideographs fill what is left.
constexpr Range kCharacters[] = {
    {U'!', U'~'},     {0xA1, 0xAC},     {0xAE, 0x17F},    {0x386, 0x3CE},   {0x400, 0x45F},
    {0x531, 0x587},   {0x5D0, 0x5EA},   {0x60C, 0x60C},   {0x61F, 0x61F},   {0x621, 0x652},
    {0x660, 0x669},   {0x901, 0x970},   {0x981, 0x9CC},   {0xA05, 0xA4C},   {0xA85, 0xACC},
    {0xB85, 0xBCC},   {0xC05, 0xC4C},   {0xC85, 0xCCC},   {0xD05, 0xD4C},   {0xE01, 0xE3A},
    {0xE40, 0xE4E},   {0x10D0, 0x10F0}, {0x1200, 0x135A}, {0x2010, 0x2027}, {0x20AC, 0x20AC},
    {0x3001, 0x3002}, {0x3041, 0x3096}, {0x30A1, 0x30FC}, {0xAC00, 0xAFFF}, {0x4E00, 0x9FFF},
};

// Alphabets whose letters merge in pairs, the first one further.
constexpr Range kAlphabets[] = {{U'a', U'z'},   {0x430, 0x44F}, {0x3B1, 0x3C9},  {0x621, 0x64A},
                                {0x905, 0x94D}, {0xE01, 0xE30}, {0x3041, 0x3096}};
constexpr char32_t kBlank = 0x2581;  // ▁

std::string utf8(std::u32string_view text) {
  std::string out;
  for (char32_t c : text) {
    const auto put = [&](unsigned value) { out += static_cast<char>(value); };
    if (c < 0x80) {
      put(c);
    } else if (c < 0x800) {
      put(0xC0 | (c >> 6)), put(0x80 | (c & 0x3F));
    } else {
      put(0xE0 | (c >> 12)), put(0x80 | ((c >> 6) & 0x3F)), put(0x80 | (c & 0x3F));
    }
  }
  return out;
}

// Merged pieces until there are `count`, each of two earlier ones or of characters in `known`.
std::vector<std::u32string> merged_pieces(size_t count, const std::set<char32_t>& known) {
  std::vector<std::u32string> pieces;
  const auto add = [&](std::u32string piece) {
    for (char32_t c : piece) {
      if (!known.contains(c)) return;
    }
    if (pieces.size() < count) pieces.push_back(std::move(piece));
  };
  for (const auto& [first, last] : kAlphabets) {
    for (char32_t a = first; a <= last; ++a) add({kBlank, a});
    for (char32_t a = first; a <= last; ++a) {
      for (char32_t b = first; b <= last; ++b) add({a, b}), add({kBlank, a, b});
    }
  }
  const auto letter = [](uint64_t number) { return U'a' + static_cast<char32_t>(number % 26); };
  for (uint64_t i = 0; i < 26 * 26 * 26; ++i) {
    const std::u32string three = {letter(i / 676), letter(i / 26), letter(i)};
    add(three), add(kBlank + three);
  }
  for (uint64_t i = 0; i < 26 * 26 * 26 * 26; ++i) {  // all of them, in a scattered order
    const uint64_t n = i * 182'837 % (26 * 26 * 26 * 26);
    add({letter(n / 17576), letter(n / 676), letter(n / 26), letter(n)});
  }
  NG_CHECK(pieces.size() == count, "{} merged pieces of {}", pieces.size(), count);
  return pieces;
}

// Protocol buffer fields of sentencepiece_model.proto.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string number_field(uint64_t field, uint64_t value) {
  return varint(field << 3) + varint(value);
}
std::string bytes_field(uint64_t field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

std::string sentencepiece_model(const SyntheticVocabulary& vocabulary) {
  enum Kind : uint64_t { Normal = 1, Unknown = 2, Control = 3 };
  std::string model;
  const auto add = [&](std::string_view piece, float score, Kind kind) {
    const auto bits = std::bit_cast<uint32_t>(score);
    std::string entry = bytes_field(1, piece) + "\x15";
    for (int i = 0; i < 4; ++i) entry += static_cast<char>(bits >> (8 * i));
    if (kind != Normal) entry += number_field(3, kind);
    model += bytes_field(1, entry);
  };
  add("<unk>", 0, Unknown), add("<s>", 0, Control), add("</s>", 0, Control);
  float score = 0;  // exact: fewer than 2^24 pieces
  for (const std::string& piece : vocabulary.pieces) add(piece, score--, Normal);
  const uint64_t size = vocabulary.pieces.size() + 3;
  return model + bytes_field(2, number_field(3, 2) + number_field(4, size)) +  // BPE
         bytes_field(3, bytes_field(1, "identity"));
}

std::string quoted(const std::string& text) { return Json(text).dump(); }

// The vocabulary as the inside of a JSON object, in the order of the ids.
std::string vocabulary_json(const SyntheticVocabulary& vocabulary) {
  std::string text = R"("<s>":0,"<pad>":1,"</s>":2,"<unk>":3)";
  size_t id = 4;
  for (const auto& piece : vocabulary.pieces) text += fmt::format(",{}:{}", quoted(piece), id++);
  return text;
}

std::string tokenizer_json(const SyntheticVocabulary& vocabulary,
                           const std::vector<std::string>& languages) {
  std::string added, merges;
  const auto add = [&](size_t id, std::string_view content, bool mask) {
    added += fmt::format(R"({}{{"id":{},"content":"{}","single_word":false,"lstrip":{},)"
                         R"("rstrip":false,"normalized":{},"special":true}})",
                         added.empty() ? "" : ",", id, content, mask, mask);
  };
  size_t id = 0;
  for (const char* special : {"<s>", "<pad>", "</s>", "<unk>"}) add(id++, special, false);
  id += vocabulary.pieces.size();
  for (const std::string& language : languages) add(id++, language, false);
  add(id, "<mask>", true);
  for (const auto& [left, right] : vocabulary.merges) {
    merges += (merges.empty() ? "" : ",") + quoted(left + " " + right);
  }
  const std::string metaspace =
      R"({"type":"Metaspace","replacement":"▁","add_prefix_space":true,"prepend_scheme":"always"})";
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" + added +
         R"(],"normalizer":{"type":"Sequence","normalizers":[{"type":"Replace","pattern":)" +
         R"({"Regex":" {2,}"},"content":" "}]},"pre_tokenizer":)" + metaspace +
         R"(,"post_processor":null,"decoder":)" + metaspace +
         R"(,"model":{"type":"BPE","dropout":null,"unk_token":"<unk>","fuse_unk":true,)" +
         R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"byte_fallback":false,)" +
         R"("vocab":{)" + vocabulary_json(vocabulary) + R"(},"merges":[)" + merges + "]}}";
}

// special_tokens_map.json, and with `more` tokenizer_config.json.
void write_token_maps(const Path& directory, const Json& languages, const Json& more) {
  Json map = {{"bos_token", "<s>"},   {"eos_token", "</s>"},
              {"unk_token", "<unk>"}, {"pad_token", "<pad>"},
              {"sep_token", "</s>"},  {"additional_special_tokens", languages}};
  for (const char* key : {"cls_token", "mask_token"}) {
    if (more.contains(key)) map[key] = more[key];
  }
  if (more.contains("mask_token")) map["mask_token"].erase("__type");  // tokenizer_config's alone
  write_file(directory / "special_tokens_map.json", map.dump(2) + "\n");
  map.update(more);
  write_file(directory / "tokenizer_config.json", map.dump(2) + "\n");
}

}  // namespace

SyntheticVocabulary make_vocabulary(size_t pieces, size_t characters) {
  std::vector<char32_t> order = {kBlank};
  for (const auto& [first, last] : kCharacters) {
    for (char32_t c = first; c <= last && order.size() < characters; ++c) order.push_back(c);
  }
  NG_CHECK(order.size() == characters && characters < pieces, "{} characters", order.size());
  auto all = merged_pieces(pieces - characters, {order.begin(), order.end()});
  for (char32_t c : order) all.push_back({c});

  SyntheticVocabulary vocabulary;
  std::unordered_set<std::u32string_view> pieces_known(all.begin(), all.end());
  for (const std::u32string& piece : all) {
    vocabulary.pieces.push_back(utf8(piece));
    const std::u32string_view view = piece;
    for (size_t at = view.size() - 1; at > 0; --at) {  // longest left part first
      const auto left = view.substr(0, at), right = view.substr(at);
      if (!pieces_known.contains(left) || !pieces_known.contains(right)) continue;
      vocabulary.merges.emplace_back(utf8(left), utf8(right));
    }
  }
  return vocabulary;
}

void write_nllb_tokenizer(const Path& directory, const SyntheticVocabulary& vocabulary,
                          const std::vector<std::string>& languages) {
  write_file(directory / "sentencepiece.bpe.model", sentencepiece_model(vocabulary));
  write_file(directory / "tokenizer.json", tokenizer_json(vocabulary, languages));
  write_token_maps(directory, languages, Json::parse(R"({
    "tokenizer_class": "NllbTokenizer", "model_max_length": 1024, "src_lang": "eng_Latn",
    "tgt_lang": null, "sp_model_kwargs": {}, "cls_token": "<s>",
    "mask_token": {"content": "<mask>", "lstrip": true, "normalized": true, "rstrip": false,
                   "single_word": false, "__type": "AddedToken"}})"));
}

void write_m2m100_tokenizer(const Path& directory, const SyntheticVocabulary& vocabulary) {
  constexpr std::string_view kLanguages =
      "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu "
      "ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr "
      "ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr "
      "uk ur uz vi wo xh yi yo zh zu ";
  write_file(directory / "sentencepiece.bpe.model", sentencepiece_model(vocabulary));
  write_file(directory / "vocab.json", "{" + vocabulary_json(vocabulary) + "}");
  Json tokens = Json::array();
  for (size_t at = 0; at < kLanguages.size(); at = kLanguages.find(' ', at) + 1) {
    tokens.push_back(fmt::format("__{}__", kLanguages.substr(at, kLanguages.find(' ', at) - at)));
  }
  write_token_maps(directory, tokens, Json::parse(R"({
    "tokenizer_class": "M2M100Tokenizer", "model_max_length": 1024, "src_lang": null,
    "tgt_lang": null, "language_codes": "m2m100", "num_madeup_words": 8})"));
}

}  // namespace ng
