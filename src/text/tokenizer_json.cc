#include <array>
#include <string>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer_files.h"

namespace ng {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;  // NLLB's own has 17 to 32 MB

using Ids = std::unordered_map<std::string, uint32_t>;

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string decode_base64(const std::string& text, std::string_view what) {
  std::array<int8_t, 256> digits;
  digits.fill(-1);
  const std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < alphabet.size(); ++i) {
    digits[static_cast<unsigned char>(alphabet[i])] = static_cast<int8_t>(i);
  }
  std::string bytes;
  uint32_t bits = 0, have = 0;
  const std::string_view body = std::string_view(text).substr(0, text.find('='));
  check(text.size() % 4 == 0 && text.size() - body.size() <= 2,
        "{}: the character map is not base64", what);
  for (char c : body) {
    const int digit = digits[static_cast<unsigned char>(c)];
    check(digit >= 0, "{}: the character map is not base64", what);
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    bytes += static_cast<char>(bits >> have & 0xFF);
  }
  return bytes;
}

// The settings of "model" that change what BPE does; NLLB's files leave them all at these values.
void check_model(const Json& model, std::string_view what) {
  check(model.is_object() && model.contains("merges"),
        "{}: \"model\" has no merges; NLLB's tokenizer is BPE, and only that is read", what);
  const std::string type = json_string(model, "type", "BPE", what);
  check(type == "BPE", "{}: the model is {}; NLLB's is BPE, and only that is read", what,
        shown(type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    check(json_string(model, key, "", what).empty(), "{}: \"{}\" is set, which is not read", what,
          key);
  }
  for (const char* key : {"byte_fallback", "ignore_merges"}) {
    check(!json_bool(model, key, false, what), "{}: \"{}\" is true, which is not read", what, key);
  }
  check(json_bool(model, "fuse_unk", false, what), "{}: \"fuse_unk\" is not true, as NLLB's is",
        what);
  check(json_number(model, "dropout", 0, what) == 0, "{}: \"dropout\" is set; remove it", what);
}

Ids read_vocabulary(const Json& model, std::string_view what, TokenizerData& data) {
  const Json& vocabulary = member(model, "vocab");
  check(vocabulary.is_object() && !vocabulary.empty(), "{}: \"vocab\" is not a map of ids", what);
  const size_t most = std::min<size_t>(2 * vocabulary.size() + 1024, kMostIds);
  Ids ids;
  ids.reserve(vocabulary.size());
  for (const auto& [piece, id] : vocabulary.items()) {
    check(!piece.empty() && id.is_number_unsigned() && id.get<uint64_t>() < most,
          "{}: '{}' has the id {}; ids are 0 to {} here", what, shown(piece), shown(id.dump()),
          most - 1);
    const auto at = id.get<uint32_t>();
    if (at >= data.pieces.size()) data.pieces.resize(at + 1);
    check(data.pieces[at].empty(), "{}: '{}' and '{}' both have the id {}", what,
          shown(data.pieces[at]), shown(piece), at);
    data.pieces[at] = piece;
    ids.emplace(piece, at);
  }
  const std::string unk = json_string(model, "unk_token", "", what);
  check(ids.contains(unk), "{}: the unknown token '{}' is not in \"vocab\"", what, shown(unk));
  data.unk = ids[unk];
  return ids;
}

// "a b" up to transformers 4.44, ["a", "b"] since.
std::pair<std::string, std::string> read_pair(const Json& merge, std::string_view what) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0], merge[1]};
  }
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  check(space != std::string::npos && text.find(' ', space + 1) == std::string::npos,
        "{}: the merge {} is not a pair of pieces", what, shown(merge.dump()));
  return {text.substr(0, space), text.substr(space + 1)};
}

void read_merges(const Json& model, const Ids& ids, std::string_view what, TokenizerData& data) {
  const Json& merges = member(model, "merges");
  check(merges.is_array(), "{}: \"merges\" is not a list", what);
  const auto id_of = [&](const std::string& piece) {
    const auto found = ids.find(piece);
    check(found != ids.end(), "{}: a merge speaks of '{}', which \"vocab\" lacks", what,
          shown(piece));
    return found->second;
  };
  for (const Json& merge : merges) {
    const auto [left, right] = read_pair(merge, what);
    const auto rank = static_cast<uint32_t>(data.merges.size());
    data.merges.push_back({id_of(left), id_of(right), id_of(left + right), rank});
  }
  sort_merges(data);
}

void read_normalizer(const Json& normalizer, std::string_view what, TokenizerData& data) {
  if (normalizer.is_null()) return;
  const std::string type = json_string(normalizer, "type", "", what);
  if (type == "Sequence") {
    const Json& list = member(normalizer, "normalizers");
    check(list.is_array(), "{}: a Sequence has no \"normalizers\"", what);
    for (const Json& step : list) read_normalizer(step, what, data);
  } else if (type == "Precompiled") {
    check(data.charsmap.empty(), "{}: has two character maps", what);
    data.charsmap = decode_base64(json_string(normalizer, "precompiled_charsmap", "", what), what);
    data.steps.push_back({NormalizerStep::Charsmap});
  } else if (type == "Strip") {
    data.steps.push_back({NormalizerStep::Strip, json_bool(normalizer, "strip_left", false, what),
                          json_bool(normalizer, "strip_right", false, what)});
  } else if (type == "Replace") {
    const Json& pattern = member(normalizer, "pattern");
    check(member(pattern, "Regex") == " {2,}", "{}: the normalizer replaces {}, which is not read",
          what, shown(pattern.dump()));
    data.steps.push_back(
        {NormalizerStep::Collapse, false, false, json_string(normalizer, "content", "", what)});
  } else {
    fail(
        "{}: the normalizer has a step of kind '{}', which is not read (transformers 5.0 to 5.2 "
        "wrote NFKC; take the tokenizer.json of the original checkpoint)",
        what, shown(type));
  }
}

void check_metaspace(const Json& stage, const char* key, std::string_view what) {
  const std::string type =
      json_string(stage.is_object() ? stage : Json::object(), "type", "", what);
  check(type == "Metaspace",
        "{}: \"{}\" is of kind '{}'; NLLB's is Metaspace, and only that is read", what, key,
        shown(type));
  const bool always = json_string(stage, "prepend_scheme", "always", what) == "always" &&
                      json_bool(stage, "add_prefix_space", true, what);
  check(json_string(stage, "replacement", "", what) == "\u2581" && always &&
            json_bool(stage, "split", true, what),
        "{}: \"{}\" is {}; only replacement ▁, prepend_scheme always and split are read", what, key,
        shown(stage.dump(), 200));
}

void read_added(const Json& list, std::string_view what, TokenizerData& data) {
  check(list.is_array() || list.is_null(), "{}: \"added_tokens\" is not a list", what);
  for (const Json& entry : list) {
    data.added.push_back(read_added_token(entry, json_int(entry, "id", -1, what), what));
  }
}

}  // namespace

AddedToken read_added_token(const Json& entry, int64_t id, std::string_view what) {
  AddedToken token;
  token.content = json_string(entry, "content", "", what);
  check(!token.content.empty() && id >= 0 && id < kMostIds,
        "{}: the added token '{}' has the id {}", what, shown(token.content), id);
  token.id = static_cast<uint32_t>(id);
  check(!json_bool(entry, "single_word", false, what),
        "{}: the added token '{}' is a single_word, which is not read", what, shown(token.content));
  token.special = json_bool(entry, "special", false, what);
  token.normalized = json_bool(entry, "normalized", !token.special, what);
  token.lstrip = json_bool(entry, "lstrip", false, what);
  token.rstrip = json_bool(entry, "rstrip", false, what);
  return token;
}

TokenizerData read_tokenizer_json(std::string_view text, std::string_view what) {
  const Json root = parse_json(text, what, {.bytes = kMostBytes});
  TokenizerData data;
  const Json& model = member(root, "model");
  check_model(model, what);
  const Ids ids = read_vocabulary(model, what, data);
  read_merges(model, ids, what, data);
  read_normalizer(member(root, "normalizer"), what, data);
  check_metaspace(member(root, "pre_tokenizer"), "pre_tokenizer", what);
  check_metaspace(member(root, "decoder"), "decoder", what);
  read_added(member(root, "added_tokens"), what, data);
  return data;
}

}  // namespace ng
