#include "text/tokenizer_files.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "base/git_lfs.h"
#include "text/languages.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;

using Ids = std::unordered_map<std::string_view, uint32_t>;

Ids ids_of(const TokenizerData& data) {
  Ids ids;
  ids.reserve(data.pieces.size());
  for (uint32_t id = 0; id < data.pieces.size(); ++id) {
    if (!data.pieces[id].empty()) ids[data.pieces[id]] = id;
  }
  return ids;
}

// The order in which the sentencepiece dialect forms pieces: by descending score, equal ones alike.
std::vector<uint32_t> ranks_of(const std::vector<float>& scores) {
  std::vector<float> distinct = scores;
  std::ranges::sort(distinct, std::greater<>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  std::vector<uint32_t> ranks;
  for (float score : scores) {
    const auto at = std::ranges::lower_bound(distinct, score, std::greater<>());
    ranks.push_back(static_cast<uint32_t>(at - distinct.begin()));
  }
  return ranks;
}

// Without scores: a piece comes when its first merge does.
std::vector<uint32_t> ranks_of(const TokenizerData& data) {
  std::vector<uint32_t> ranks(data.pieces.size(), UINT32_MAX - 1);
  for (const Merge& merge : data.merges) {
    ranks[merge.result] = std::min(ranks[merge.result], merge.rank);
  }
  return ranks;
}

// transformers 4.57's generate_merges: every split of a piece into two others; descending score,
// then length of the left part, then of the right one (in characters), then the piece's place.
void make_merges(const std::vector<float>& scores, TokenizerData& data) {
  struct Split {
    Merge merge;
    float score;
    size_t left, right;
  };
  const Ids ids = ids_of(data);
  std::vector<Split> splits;
  for (uint32_t id = 4; id < data.pieces.size(); ++id) {
    const std::string_view piece = data.pieces[id];
    const auto starts = [](char c) { return (c & 0xC0) != 0x80; };
    const auto length = static_cast<size_t>(std::ranges::count_if(piece, starts));
    size_t left = 0;
    for (size_t at = 1; at < piece.size(); ++at) {
      if (!starts(piece[at])) continue;
      ++left;
      const auto a = ids.find(piece.substr(0, at)), b = ids.find(piece.substr(at));
      if (a == ids.end() || b == ids.end()) continue;
      splits.push_back({{a->second, b->second, id, 0}, scores[id], left, length - left});
    }
  }
  std::ranges::stable_sort(splits, std::greater<>(), [](const Split& split) {
    return std::tuple(split.score, split.left, split.right);
  });
  for (const Split& split : splits) {
    data.merges.push_back(split.merge);
    data.merges.back().rank = static_cast<uint32_t>(data.merges.size() - 1);
  }
  sort_merges(data);
}

// Where both files are there: the pieces of the model at i + 1, the same merges in an order that
// the scores allow, the same character map.
void check_agreement(const TokenizerData& json, const TokenizerData& model, std::string_view what) {
  std::vector<bool> added(model.pieces.size());
  for (const AddedToken& token : model.added) added[token.id] = true;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const std::string_view ours = id < json.pieces.size() ? std::string_view(json.pieces[id]) : "";
    check(added[id] || ours == model.pieces[id],
          "{}: {} and {} differ: id {} is '{}' in one, '{}' in the other", what, kTokenizerJson,
          kSentencePieceModel, id, shown(ours), shown(model.pieces[id]));
  }
  check(json.charsmap == model.charsmap, "{}: {} and {} differ in their character maps", what,
        kTokenizerJson, kSentencePieceModel);
  const auto same = [](const Merge& a, const Merge& b) {
    return a.left == b.left && a.right == b.right;
  };
  const auto real = [](const Merge& merge) { return merge.result > 3; };
  std::vector<Merge> ours, theirs;
  std::ranges::copy_if(json.merges, std::back_inserter(ours), real);
  std::ranges::copy_if(model.merges, std::back_inserter(theirs), real);
  const auto [a, b] = std::ranges::mismatch(ours, theirs, same);
  if (a != ours.end() || b != theirs.end()) {
    const Merge& odd = a != ours.end() ? *a : *b;
    fail("{}: {} and {} differ: only one merges '{}' and '{}'", what, kTokenizerJson,
         kSentencePieceModel, shown(json.pieces[odd.left]), shown(json.pieces[odd.right]));
  }
  std::ranges::sort(ours, {}, &Merge::rank);
  for (size_t i = 1; i < ours.size(); ++i) {
    check(model.piece_rank[ours[i - 1].result] <= model.piece_rank[ours[i].result],
          "{}: {} merges '{}' before '{}', {} after it", what, kTokenizerJson,
          shown(json.pieces[ours[i - 1].result]), shown(json.pieces[ours[i].result]),
          kSentencePieceModel);
  }
}

// Ids behind the model's pieces are those of added tokens.
void check_only_added(const TokenizerData& data, size_t pieces, std::string_view what) {
  std::set<std::pair<size_t, std::string_view>> added;
  for (const AddedToken& token : data.added) added.emplace(token.id, token.content);
  for (size_t id = pieces; id < data.pieces.size(); ++id) {
    check(data.pieces[id].empty() || added.contains({id, data.pieces[id]}),
          "{}: {} and {} differ: the piece '{}' (id {}) is only in the first, and no added token",
          what, kTokenizerJson, kSentencePieceModel, shown(data.pieces[id]), id);
  }
}

std::string read_whole(const Path& path) {
  std::string bytes = read_file(path, kMostBytes);
  check_fetched(bytes, path);
  check(!bytes.empty(), "{}: is empty: is the download complete?", path.string());
  return bytes;
}

TokenizerData read_model(const Path& path) {
  return convert_sentencepiece(read_sentencepiece(read_whole(path), path.string()), path.string());
}

Json read_optional(const Path& path) {
  if (!std::filesystem::exists(path)) return Json::object();
  Json json = parse_json(read_file(path, kMostBytes), path.string());
  check(json.is_object(), "{}: is not a JSON object", path.string());
  return json;
}

// Whether a file lists `content` among its special tokens.
bool lists_special(const Json& file, const std::string& content) {
  const Json list = file.value("additional_special_tokens", Json::array());
  return std::ranges::any_of(list, [&](const Json& entry) {
    return entry == content || (entry.is_object() && entry.value("content", Json()) == content);
  });
}

// tokenizer_config.json's added_tokens_decoder {"id": token} says all; added_tokens.json
// {"content": id} is what older versions wrote.
void add_configured(const Json& config, const Path& directory, TokenizerData& data) {
  const std::string what = directory.string();
  const auto decoder = config.find("added_tokens_decoder");
  if (decoder != config.end()) {
    check(decoder->is_object(), "{}: added_tokens_decoder is not an object", what);
    for (const auto& [key, entry] : decoder->items()) {
      const bool digits = !key.empty() && key.size() < 9 &&
                          key.find_first_not_of("0123456789") == std::string::npos;
      check(digits && entry.is_object(), "{}: the added token '{}' is not an id", what, shown(key));
      data.added.push_back(read_added_token(entry, std::stoi(key), what));
    }
    return;
  }
  const Json map = read_optional(directory / "special_tokens_map.json");
  const Json tokens = read_optional(directory / "added_tokens.json");
  std::set<std::string> known;
  for (const AddedToken& token : data.added) known.insert(token.content);
  for (const auto& [content, id] : tokens.items()) {
    if (known.contains(content)) continue;
    const bool special = content == "<mask>" || is_language_code(content) ||
                         lists_special(map, content) || lists_special(config, content);
    data.added.push_back(read_added_token({{"content", content}, {"special", special}},
                                          json_int(tokens, content.c_str(), -1, what), what));
  }
}

// transformers' class looks for the mask token also where the files have it among the pieces alone.
void add_mask(const Json& config, std::string_view what, TokenizerData& data) {
  Json entry = {{"content", "<mask>"}, {"special", true}, {"normalized", true}, {"lstrip", true}};
  const auto named = config.find("mask_token");
  if (named != config.end() && named->is_null()) return;
  if (named != config.end() && named->is_object()) entry.update(*named);
  if (named != config.end() && named->is_string()) entry["content"] = *named;
  const auto piece = std::ranges::find(data.pieces, json_string(entry, "content", "", what));
  if (piece == data.pieces.end() || piece->empty()) return;
  const AddedToken token = read_added_token(entry, piece - data.pieces.begin(), what);
  const auto same = [&](const AddedToken& other) { return other.content == token.content; };
  if (std::ranges::none_of(data.added, same)) data.added.push_back(token);
}

// fairseq's layout: the languages behind the pieces, then <mask>.
void add_fairseq_layout(TokenizerData& data) {
  auto id = static_cast<uint32_t>(data.pieces.size());
  for (const Language& language : nllb_languages()) {
    data.added.push_back({std::string(language.code), id++, true});
  }
  const auto mask = std::ranges::find(data.pieces, "<mask>");
  if (mask != data.pieces.end()) id = static_cast<uint32_t>(mask - data.pieces.begin());
  data.added.push_back({"<mask>", id, true, true, true});
}

// The id of the token that `key` ("bos_token", …) names; files may spell it out or not.
uint32_t special_id(const Json& config, const char* key, const char* usual,
                    const TokenizerData& data) {
  const auto found = config.find(key);
  std::string content = usual;
  if (found != config.end() && found->is_object())
    content = json_string(*found, "content", "", key);
  if (found != config.end() && found->is_string()) content = *found;
  const auto id = std::ranges::find(data.pieces, content);
  check(!content.empty() && id != data.pieces.end(), "tokenizer_config.json: {} '{}' is no token",
        key, shown(content));
  return static_cast<uint32_t>(id - data.pieces.begin());
}

// Control tokens never come out of plain text, not even by a merge.
void drop_special_merges(TokenizerData& data) {
  std::vector<bool> special(data.pieces.size());
  for (const AddedToken& token : data.added) special[token.id] = token.special;
  std::erase_if(data.merges, [&](const Merge& merge) { return special[merge.result]; });
}

}  // namespace

TokenizerData convert_sentencepiece(const SentencePieceModel& model, std::string_view what) {
  TokenizerData data;
  data.pieces = {"<s>", "<pad>", "</s>", "<unk>"};
  std::vector<float> scores(4, 0.0f);
  for (size_t i = 3; i < model.pieces.size(); ++i) {
    data.pieces.push_back(model.pieces[i].text);
    scores.push_back(model.pieces[i].score);
  }
  std::unordered_map<std::string, uint32_t> ids;  // of equal pieces the last keeps its id
  for (uint32_t id = 0; id < data.pieces.size(); ++id) ids[data.pieces[id]] = id;
  for (uint32_t id = 0; id < data.pieces.size(); ++id) {
    if (ids[data.pieces[id]] != id) data.pieces[id].clear();
  }
  check(ids.contains(model.unk_piece), "{}: the unknown piece '{}' is not among the pieces", what,
        shown(model.unk_piece));
  data.unk = ids[model.unk_piece];
  make_merges(scores, data);
  data.piece_rank = ranks_of(scores);
  data.charsmap = model.charsmap;
  if (!data.charsmap.empty()) data.steps.push_back({NormalizerStep::Charsmap});
  data.steps.push_back({NormalizerStep::Strip, false, true});
  data.steps.push_back({NormalizerStep::Collapse, false, false, "\u2581"});
  data.unk_surface = model.unk_surface;
  for (const char* piece : {"<s>", "<pad>", "</s>", "<unk>"}) {
    data.added.push_back({piece, ids[piece], true});
  }
  for (const auto& [text, score, type] : model.pieces) {
    if (type != SentencePieceModel::UserDefined && type != SentencePieceModel::Control) continue;
    // One of the three that fairseq's four replace moves to the end.
    const auto [at, is_new] = ids.try_emplace(text, static_cast<uint32_t>(data.pieces.size()));
    if (is_new) data.pieces.push_back(text);
    data.added.push_back({text, at->second, type == SentencePieceModel::Control});
    if (type == SentencePieceModel::UserDefined) data.verbatim.push_back(text);
  }
  return data;
}

bool has_nllb_tokenizer(const Path& directory) {
  const auto has = [&](const char* name) { return std::filesystem::exists(directory / name); };
  return has(kTokenizerJson) || (has(kSentencePieceModel) && !has("vocab.json"));
}

TokenizerData read_tokenizer_files(const Path& directory) {
  const std::string what = directory.string();
  const bool has_json = std::filesystem::exists(directory / kTokenizerJson);
  const bool has_model = std::filesystem::exists(directory / kSentencePieceModel);
  check(has_json || has_model, "{}: holds no tokenizer: neither {} nor {} is there", what,
        kTokenizerJson, kSentencePieceModel);
  check(has_nllb_tokenizer(directory),
        "{}: vocab.json beside {} makes it an M2M100 tokenizer; only NLLB's are read", what,
        kSentencePieceModel);
  const Json config = read_optional(directory / "tokenizer_config.json");
  TokenizerData data;
  if (has_model) data = read_model(directory / kSentencePieceModel);
  const size_t from_model = data.pieces.size();
  if (has_json) {
    const Path path = directory / kTokenizerJson;
    TokenizerData json = read_tokenizer_json(read_whole(path), path.string());
    if (has_model) check_agreement(json, data, what);
    json.piece_rank = has_model ? std::move(data.piece_rank) : ranks_of(json);
    json.verbatim = std::move(data.verbatim);
    json.unk_surface = std::move(data.unk_surface);
    data = std::move(json);
  }
  add_configured(config, directory, data);
  const bool languages = std::ranges::any_of(
      data.added, [](const AddedToken& token) { return is_language_code(token.content); });
  if (has_json) add_mask(config, what, data);
  if (has_json && has_model) check_only_added(data, from_model, what);
  if (!has_json && !languages) add_fairseq_layout(data);
  settle_added(data, what);
  data.piece_rank.resize(data.pieces.size(), UINT32_MAX - 1);
  drop_special_merges(data);
  data.bos = special_id(config, "bos_token", "<s>", data);
  data.pad = special_id(config, "pad_token", "<pad>", data);
  data.eos = special_id(config, "eos_token", "</s>", data);
  data.legacy = json_bool(config, "legacy_behaviour", false, what);
  data.cleanup = json_bool(config, "clean_up_tokenization_spaces", false, what);
  check_tokenizer(data, what);
  return data;
}

}  // namespace ng
