#include "text/tokenizer_data.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <type_traits>

#include "base/error.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr std::string_view kMagic = "ngtoken";
constexpr uint32_t kVersion = 1;

void put(std::string& out, uint32_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put(std::string& out, std::string_view text) {
  put(out, static_cast<uint32_t>(text.size()));
  out += text;
}

template <class T>
void put(std::string& out, const std::vector<T>& values) {
  static_assert(std::is_trivially_copyable_v<T>);
  put(out, static_cast<uint32_t>(values.size()));
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

class Reader {
 public:
  Reader(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  std::string_view take(size_t size) {
    check(size <= bytes_.size(), "{}: is cut short ({} bytes wanted, {} left)", what_, size,
          bytes_.size());
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  uint32_t number() {
    uint32_t value = 0;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }
  // A count of things that take at least `size` bytes each.
  uint32_t count(size_t size) {
    const uint32_t n = number();
    check(n <= bytes_.size() / size, "{}: is cut short (a list of {}, {} bytes left)", what_, n,
          bytes_.size());
    return n;
  }
  std::string text() { return std::string(take(number())); }
  template <class T>
  std::vector<T> values() {
    std::vector<T> values(count(sizeof(T)));
    const std::string_view bytes = take(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  bool done() const { return bytes_.empty(); }

 private:
  std::string_view bytes_, what_;
};

uint32_t flags(bool a, bool b, bool c, bool d) { return a | b << 1 | c << 2 | d << 3; }

void read_lists(Reader& in, TokenizerData& data) {
  const std::vector<uint32_t> sizes = in.values<uint32_t>();
  data.pieces.reserve(sizes.size());
  for (uint32_t size : sizes) data.pieces.emplace_back(in.take(size));
  data.piece_rank = in.values<uint32_t>();
  data.merges = in.values<Merge>();
  for (uint32_t n = in.count(12); n > 0; --n) {
    NormalizerStep step{static_cast<NormalizerStep::Kind>(in.number())};
    const uint32_t bits = in.number();
    step.left = bits & 1, step.right = bits & 2;
    step.content = in.text();
    data.steps.push_back(std::move(step));
  }
  for (uint32_t n = in.count(12); n > 0; --n) {
    AddedToken token;
    token.id = in.number();
    const uint32_t bits = in.number();
    token.special = bits & 1, token.normalized = bits & 2;
    token.lstrip = bits & 4, token.rstrip = bits & 8;
    token.content = in.text();
    data.added.push_back(std::move(token));
  }
  for (uint32_t n = in.count(4); n > 0; --n) data.verbatim.push_back(in.text());
}

using ByContent = std::map<std::string_view, const AddedToken*>;

// What the vocabulary and the added tokens say of one content or one id is the same, or the piece
// is an added token itself (then settle_added decides).
void check_places(const TokenizerData& data, const ByContent& by_content, std::string_view what) {
  for (const AddedToken& token : data.added) {
    const std::string_view piece =
        token.id < data.pieces.size() ? std::string_view(data.pieces[token.id]) : "";
    check(piece.empty() || by_content.contains(piece),
          "{}: the id {} is both the piece '{}' and the added token '{}'", what, token.id,
          shown(piece), shown(token.content));
  }
  for (uint32_t id = 0; id < data.pieces.size(); ++id) {
    const auto found = by_content.find(data.pieces[id]);
    check(found == by_content.end() || found->second->id == id, "{}: '{}' has the ids {} and {}",
          what, shown(data.pieces[id]), id, found == by_content.end() ? 0 : found->second->id);
  }
}

}  // namespace

std::string serialize(const TokenizerData& data) {
  std::string out(kMagic);
  put(out, kVersion);
  for (uint32_t id : {data.bos, data.pad, data.eos, data.unk}) put(out, id);
  put(out, flags(data.legacy, data.cleanup, false, false));
  put(out, data.charsmap);
  put(out, data.unk_surface);
  std::vector<uint32_t> sizes;
  for (const std::string& piece : data.pieces) sizes.push_back(static_cast<uint32_t>(piece.size()));
  put(out, sizes);
  for (const std::string& piece : data.pieces) out += piece;
  put(out, data.piece_rank);
  put(out, data.merges);
  put(out, static_cast<uint32_t>(data.steps.size()));
  for (const NormalizerStep& step : data.steps) {
    put(out, step.kind);
    put(out, flags(step.left, step.right, false, false));
    put(out, step.content);
  }
  put(out, static_cast<uint32_t>(data.added.size()));
  for (const AddedToken& token : data.added) {
    put(out, token.id);
    put(out, flags(token.special, token.normalized, token.lstrip, token.rstrip));
    put(out, token.content);
  }
  put(out, static_cast<uint32_t>(data.verbatim.size()));
  for (const std::string& piece : data.verbatim) put(out, piece);
  return out;
}

TokenizerData parse_tokenizer_data(std::string_view bytes, std::string_view what) {
  Reader in(bytes, what);
  check(in.take(kMagic.size()) == kMagic, "{}: is not a neuroglot tokenizer", what);
  const uint32_t version = in.number();
  check(version == kVersion, "{}: has version {}, this program reads {}; compile the model again",
        what, version, kVersion);
  TokenizerData data;
  for (uint32_t* id : {&data.bos, &data.pad, &data.eos, &data.unk}) *id = in.number();
  const uint32_t bits = in.number();
  data.legacy = bits & 1, data.cleanup = bits & 2;
  data.charsmap = in.text();
  data.unk_surface = in.text();
  read_lists(in, data);
  check(in.done(), "{}: goes on after its end", what);
  check_tokenizer(data, what);
  return data;
}

void settle_added(TokenizerData& data, std::string_view what) {
  ByContent by_content;
  std::map<uint32_t, const AddedToken*> by_id;
  const size_t vocabulary = data.pieces.size();
  for (const AddedToken& token : data.added) {
    const AddedToken*& known = by_content[token.content];
    check(known == nullptr || known->id == token.id, "{}: the token '{}' has the ids {} and {}",
          what, shown(token.content), known ? known->id : 0, token.id);
    const AddedToken*& holder = by_id[token.id];
    const std::string_view piece =
        token.id < vocabulary ? std::string_view(data.pieces[token.id]) : "";
    check(holder == nullptr || holder->content == token.content || holder->content == piece ||
              token.content == piece,
          "{}: the id {} is both '{}' and '{}'", what, token.id,
          shown(holder ? holder->content : ""), shown(token.content));
    known = holder = &token;
  }
  check_places(data, by_content, what);
  const size_t most = std::min<size_t>(vocabulary + 2 * by_id.size() + 1024, kMostIds);
  std::vector<AddedToken> settled;
  for (const auto& [content, token] : by_content) {
    check(token->id < most, "{}: the token '{}' has the id {}; ids are below {} here", what,
          shown(content), token->id, most);
    const AddedToken& last = *by_id[token->id];
    settled.push_back(*token);
    settled.back().lstrip = last.lstrip, settled.back().rstrip = last.rstrip;
    if (last.id >= data.pieces.size()) data.pieces.resize(last.id + 1);
    data.pieces[last.id] = last.content;
  }
  std::ranges::stable_sort(settled, {}, &AddedToken::id);
  data.added = std::move(settled);
}

void sort_merges(TokenizerData& data) {
  const auto key = [](const Merge& m) { return std::tuple(m.left, m.right, ~m.rank); };
  const auto same = [](const Merge& a, const Merge& b) {
    return a.left == b.left && a.right == b.right;
  };
  std::ranges::sort(data.merges, {}, key);
  data.merges.erase(std::unique(data.merges.begin(), data.merges.end(), same), data.merges.end());
}

void check_tokenizer(const TokenizerData& data, std::string_view what) {
  const size_t ids = data.pieces.size();
  check(ids > 0 && ids <= kMostIds, "{}: has {} ids, 1 to {} are possible", what, ids, kMostIds);
  check(data.piece_rank.size() == ids, "{}: ranks {} of {} pieces", what, data.piece_rank.size(),
        ids);
  for (uint32_t id : {data.bos, data.pad, data.eos, data.unk}) {
    check(id < ids && !data.pieces[id].empty(), "{}: the special id {} has no token", what, id);
  }
  for (const std::string& piece : data.pieces) {
    check(is_valid_utf8(piece), "{}: the piece '{}' is not UTF-8", what, shown(piece));
  }
  const Merge* last = nullptr;
  for (const Merge& merge : data.merges) {
    check(merge.left < ids && merge.right < ids && merge.result < ids && merge.rank < UINT32_MAX,
          "{}: a merge of ids {} and {} is out of range", what, merge.left, merge.right);
    check(last == nullptr || last->left < merge.left ||
              (last->left == merge.left && last->right < merge.right),
          "{}: the merge of ids {} and {} is out of order", what, merge.left, merge.right);
    last = &merge;
  }
  for (const NormalizerStep& step : data.steps) {
    check(step.kind <= NormalizerStep::Collapse && is_valid_utf8(step.content),
          "{}: has an unknown normalizer step", what);
  }
  for (size_t i = 0; i < data.added.size(); ++i) {
    const AddedToken& token = data.added[i];
    check(token.id < ids && !data.pieces[token.id].empty() && !token.content.empty() &&
              is_valid_utf8(token.content) && (i == 0 || data.added[i - 1].id <= token.id),
          "{}: the added token '{}' is not at its place", what, shown(token.content));
  }
  for (const std::string& piece : data.verbatim) {
    check(!piece.empty() && is_valid_utf8(piece), "{}: a user-defined piece is broken", what);
  }
  check(is_valid_utf8(data.unk_surface), "{}: the unknown token's surface is not UTF-8", what);
}

}  // namespace ng
