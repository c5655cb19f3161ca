#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/bpe.h"
#include "text/languages.h"
#include "text/normalize.h"
#include "text/tokenizer_files.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr std::string_view kSpace = "\u2581";
constexpr uint32_t kSpaceCode = 0x2581;

// The added tokens that are looked for in the raw text, or in the normalized one.
TokenMatcher matcher_of(const TokenizerData& data, const Charsmap& charsmap, bool normalized) {
  std::vector<std::string> patterns;
  std::vector<AddedToken> tokens;
  for (const AddedToken& token : data.added) {
    if (token.normalized != normalized) continue;
    Normalized pattern{token.content};
    if (normalized) pattern = normalize_hf(std::move(pattern), data.steps, charsmap);
    patterns.push_back(pattern.text);
    tokens.push_back(token);
  }
  return {patterns, std::move(tokens)};
}

// Metaspace's decoding: in the first piece every ▁ goes, in the others it becomes a space.
std::string with_spaces(std::string_view piece, bool first) {
  std::string text;
  for (size_t at = 0; at < piece.size(); ++at) {
    if (!piece.substr(at).starts_with(kSpace)) {
      text += piece[at];
      continue;
    }
    if (!first) text += ' ';
    at += kSpace.size() - 1;
  }
  return text;
}

// transformers' clean_up_tokenization, rule by rule.
std::string clean_up(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
      {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) {
    std::string cleaned;
    size_t done = 0;
    for (size_t at; (at = text.find(from, done)) != std::string::npos; done = at + from.size()) {
      cleaned.append(text, done, at - done) += to;
    }
    text = cleaned.append(text, done);
  }
  return text;
}

// One text on its way to ids.
class Encoding {
 public:
  Encoding(const Bpe& bpe, uint32_t unk, Bpe::Order order, bool tracked)
      : bpe_(bpe), unk_(unk), order_(order), tracked_(tracked) {}

  void add_id(uint32_t id, uint32_t offset) {
    out_.ids.push_back(static_cast<int32_t>(id));
    if (tracked_) out_.offsets.push_back(offset);
  }
  // Symbols of the word under way; unknown characters side by side become one unk.
  void add_symbol(uint32_t id, size_t begin, bool verbatim = false) {
    const bool unknown = id == Bpe::kNone;
    if (unknown && !word_.empty() && word_.back().id == Bpe::kNone) return;
    word_.push_back({id, static_cast<uint32_t>(begin), verbatim});
  }
  // The word is complete: merges it. `from` is the text that its symbols' places count in.
  void end_word(const Normalized& from) {
    if (word_.empty()) return;
    bpe_.merge(word_, order_, room_);
    for (const Bpe::Symbol& symbol : word_) {
      add_id(symbol.id == Bpe::kNone ? unk_ : symbol.id, from.origin_of(symbol.begin));
    }
    word_.clear();
  }
  Encoded take() { return std::move(out_); }

 private:
  const Bpe& bpe_;
  const uint32_t unk_;
  const Bpe::Order order_;
  const bool tracked_;
  Bpe::Room room_;
  std::vector<Bpe::Symbol> word_;
  Encoded out_;
};

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerData from)
      : data(std::move(from)),
        charsmap(data.charsmap, "tokenizer"),
        bpe(data),
        raw(matcher_of(data, charsmap, false)),
        normalized(matcher_of(data, charsmap, true)),
        verbatim(data.verbatim, std::vector<AddedToken>(data.verbatim.size())),
        special(data.pieces.size()),
        space(bpe.piece_of(kSpaceCode)) {
    for (const AddedToken& token : data.added) {
      special[token.id] = token.special;
      if (!token.special || !is_language_code(token.content)) continue;
      languages.push_back({token.content, static_cast<int32_t>(token.id)});
    }
    for (const std::string& piece : data.verbatim) {
      const auto found = std::ranges::find(data.pieces, piece);
      verbatim_ids.push_back(found == data.pieces.end()
                                 ? Bpe::kNone
                                 : static_cast<uint32_t>(found - data.pieces.begin()));
    }
    for (const std::string& piece : data.pieces) {
      spaces_inside =
          spaces_inside || space == Bpe::kNone || piece.find(kSpace, 1) != std::string::npos;
    }
  }

  Encoded encode(std::string_view text, const EncodeOptions& options, bool tracked) const;
  void encode_hf(std::string_view text, bool special, Encoding& out, bool tracked) const;
  void encode_sentencepiece(const Normalized& text, Encoding& out) const;
  std::string decode_hf(std::span<const int32_t> ids, bool skip_special) const;
  std::string decode_sentencepiece(std::span<const int32_t> ids) const;
  std::string_view piece(int32_t id) const {
    const bool known = id >= 0 && static_cast<size_t>(id) < data.pieces.size();
    return known ? std::string_view(data.pieces[id]) : "";
  }

  const TokenizerData data;
  const Charsmap charsmap;
  const Bpe bpe;
  const TokenMatcher raw, normalized, verbatim;
  std::vector<uint32_t> verbatim_ids;
  std::vector<bool> special;
  const uint32_t space;        // ▁ on its own
  bool spaces_inside = false;  // some piece has a ▁ behind its first character, or none is ▁
  std::vector<LanguageToken> languages;
};

Encoded Tokenizer::State::encode(std::string_view text, const EncodeOptions& options,
                                 bool tracked) const {
  check(text.size() <= kMostText, "a text of {} bytes; {} is the most", text.size(), kMostText);
  check(options.dialect == Dialect::hf || !options.special,
        "special tokens in the text are for the hf dialect; SentencePiece knows none");
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = repair_utf8(text);
  if (options.dialect == Dialect::hf) {
    Encoding out(bpe, data.unk, Bpe::Order::merge_rank, tracked);
    encode_hf(text, options.special, out, tracked);
    return out.take();
  }
  Encoding out(bpe, data.unk, Bpe::Order::piece_rank, tracked);
  encode_sentencepiece(normalize_sentencepiece(text, charsmap, verbatim, tracked), out);
  return out.take();
}

// Added tokens of the raw text, then of the normalized text between them, then words: each begins
// with a ▁ (one is put before what has none) and is merged on its own.
void Tokenizer::State::encode_hf(std::string_view text, bool split_special, Encoding& out,
                                 bool tracked) const {
  for (const TokenMatcher::Part& part : raw.split(text, split_special)) {
    if (part.token != nullptr) {
      out.add_id(part.token->id, static_cast<uint32_t>(part.begin));
      continue;
    }
    const Normalized clean =
        normalize_hf(untouched(text, part.begin, part.end, tracked), data.steps, charsmap);
    for (const TokenMatcher::Part& inner : normalized.split(clean.text, split_special)) {
      if (inner.token != nullptr) {
        out.add_id(inner.token->id, clean.origin_of(inner.begin));
        continue;
      }
      for (size_t at = inner.begin; at < inner.end;) {
        const Scalar scalar = decode_utf8(clean.text, at);
        const bool starts = scalar.code == ' ' || scalar.code == kSpaceCode;
        if (starts) out.end_word(clean);
        if (starts || at == inner.begin) out.add_symbol(space, at);
        if (!starts) out.add_symbol(bpe.piece_of(scalar.code), at);
        at += scalar.size;
      }
      out.end_word(clean);
    }
  }
}

void Tokenizer::State::encode_sentencepiece(const Normalized& text, Encoding& out) const {
  for (size_t at = 0; at < text.text.size();) {
    const auto whole = verbatim.match(std::string_view(text.text).substr(at));
    if (whole.size > 0) {
      out.add_symbol(verbatim_ids[whole.index], at, true);
      at += whole.size;
      continue;
    }
    const Scalar scalar = decode_utf8(text.text, at);
    if (scalar.code == kSpaceCode && !spaces_inside) out.end_word(text);
    out.add_symbol(bpe.piece_of(scalar.code), at);
    at += scalar.size;
  }
  out.end_word(text);
}

std::string Tokenizer::State::decode_hf(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  bool first = true;
  for (int32_t id : ids) {
    const std::string_view token = piece(id);
    if (token.empty() || (skip_special && special[id])) continue;
    text += with_spaces(token, first);
    first = false;
  }
  return data.cleanup ? clean_up(std::move(text)) : text;
}

// Control pieces and ids that SentencePiece does not know are nothing; while there is no text yet,
// each piece loses a leading ▁.
std::string Tokenizer::State::decode_sentencepiece(std::span<const int32_t> ids) const {
  std::string text;
  for (int32_t id : ids) {
    std::string_view token = piece(id);
    if (!token.empty() && static_cast<uint32_t>(id) == data.unk) {
      text += data.unk_surface;
    } else if (!token.empty() && !special[id]) {
      if (text.empty() && token.starts_with(kSpace)) token.remove_prefix(kSpace.size());
      text += with_spaces(token, false);
    }
  }
  return text;
}

Tokenizer::Tokenizer(TokenizerData data) : state_(std::make_unique<const State>(std::move(data))) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::open(const Path& model_directory) {
  return Tokenizer(read_tokenizer_files(model_directory));
}

bool Tokenizer::present(const Path& model_directory) { return has_nllb_tokenizer(model_directory); }

std::string Tokenizer::serialize() const { return ng::serialize(state_->data); }

Tokenizer Tokenizer::parse(std::string_view serialized, std::string_view what) {
  return Tokenizer(parse_tokenizer_data(serialized, what));
}

std::vector<int32_t> Tokenizer::encode_content(std::string_view text,
                                               const EncodeOptions& options) const {
  return state_->encode(text, options, false).ids;
}

Encoded Tokenizer::encode_with_offsets(std::string_view text, const EncodeOptions& options) const {
  return state_->encode(text, options, true);
}

std::vector<int32_t> Tokenizer::frame(std::span<const int32_t> content, int32_t source) const {
  std::vector<int32_t> ids;
  ids.reserve(content.size() + 2);
  if (!legacy()) ids.push_back(source);
  ids.insert(ids.end(), content.begin(), content.end());
  ids.push_back(eos());
  if (legacy()) ids.push_back(source);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, const DecodeOptions& options) const {
  return options.dialect == Dialect::hf ? state_->decode_hf(ids, options.skip_special)
                                        : state_->decode_sentencepiece(ids);
}

const std::vector<Tokenizer::LanguageToken>& Tokenizer::languages() const {
  return state_->languages;
}

int32_t Tokenizer::language_id(std::string_view code) const {
  for (const std::string_view spelling : {code, other_spelling(code)}) {
    const auto found = std::ranges::find(languages(), spelling, &LanguageToken::code);
    if (found != languages().end()) return found->id;
  }
  std::vector<std::string> codes;
  for (const LanguageToken& language : languages()) codes.push_back(language.code);
  std::string close;
  for (const std::string& near : close_languages(code, codes)) {
    close +=
        fmt::format("{}{} ({})", close.empty() ? "; close: " : ", ", near, language_name(near));
  }
  fail("the model has no language '{}'{}; `neuroglot languages` lists its {}", shown(code), close,
       codes.size());
}

int32_t Tokenizer::bos() const { return static_cast<int32_t>(state_->data.bos); }
int32_t Tokenizer::pad() const { return static_cast<int32_t>(state_->data.pad); }
int32_t Tokenizer::eos() const { return static_cast<int32_t>(state_->data.eos); }
int32_t Tokenizer::unk() const { return static_cast<int32_t>(state_->data.unk); }
size_t Tokenizer::size() const { return state_->data.pieces.size(); }
std::string_view Tokenizer::piece(int32_t id) const { return state_->piece(id); }
bool Tokenizer::legacy() const { return state_->data.legacy; }

}  // namespace ng
