// `neuroglot tokenize`, `detokenize` and `languages`: the tokenizer by itself.
#include <charconv>

#include "base/error.h"
#include "text/languages.h"
#include "text/utf8.h"
#include "tools/lines.h"
#include "tools/opened.h"
#include "tools/records.h"

namespace ng {
namespace {

constexpr size_t kLongestLine = size_t{16} << 20;

Dialect dialect_of(const Options& options) {
  if (options.dialect == "hf") return Dialect::hf;
  check(options.dialect == "sentencepiece", "--dialect {}: hf or sentencepiece",
        shown(options.dialect));
  return Dialect::sentencepiece;
}

// Ids separated by blanks, each below `vocabulary`.
std::vector<int32_t> parse_ids(std::string_view text, int64_t vocabulary) {
  std::vector<int32_t> ids;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == '\r')) ++at;
    if (at == end) return ids;
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    const bool whole = next == end || *next == ' ' || *next == '\t' || *next == '\r';
    check(error == std::errc() && id >= 0 && whole, "\"{}\" is no token id",
          shown(std::string_view(at, static_cast<size_t>(end - at)), 20));
    check(id < vocabulary, "{} is no token id: the vocabulary has {}", id, vocabulary);
    ids.push_back(id);
    at = next;
  }
}

// Calls `convert` for every line; a line that fails is an empty line of output.
template <class Convert>
int each_line(const Options& options, Convert convert) {
  LineReader reader(options.files, kLongestLine);
  LineWriter writer("");
  FailedRecords failed("lines");
  for (auto lines = reader.window(kWindowLines); !lines.empty();
       lines = reader.window(kWindowLines)) {
    for (const Line& line : lines) {
      try {
        check(!line.too_long, "is longer than {} MiB: split it", kLongestLine >> 20);
        writer.write(convert(line) + "\n");
      } catch (const Error& error) {
        if (error.kind() != Error::Kind::User) throw;
        failed.add(line.number, error.what());
        writer.write("\n");
      }
    }
    writer.flush();
  }
  writer.finish();
  return failed.finish(reader.lines());
}

}  // namespace

int tokenize_command(const Options& options) {
  const EncodeOptions encode{dialect_of(options), options.special};
  check(encode.dialect == Dialect::hf || !encode.special,
        "--special is for --dialect hf; SentencePiece knows no special tokens in the text");
  std::optional<CachedBundle> cached;
  const Tokenizer tokenizer = open_tokenizer(open_bundle(options, cached));
  const bool framed = !options.lang.empty();
  const int32_t language = framed ? tokenizer.language_id(options.lang) : 0;
  return each_line(options, [&](const Line& line) {
    if (!is_valid_utf8(line.text)) warn(options, line.number, "invalid UTF-8 is read as U+FFFD");
    std::vector<int32_t> ids = tokenizer.encode_content(line.text, encode);
    if (framed) ids = tokenizer.frame(ids, language);
    return fmt::format("{}", fmt::join(ids, " "));
  });
}

int detokenize_command(const Options& options) {
  std::optional<CachedBundle> cached;
  const Bundle bundle = open_bundle(options, cached);
  const Tokenizer tokenizer = open_tokenizer(bundle);
  const DecodeOptions decode{dialect_of(options), !options.special};
  if (!options.lang.empty()) tokenizer.language_id(options.lang);  // refuses what is none
  return each_line(options, [&](const Line& line) {
    return tokenizer.decode(parse_ids(line.text, bundle.facts().vocabulary), decode);
  });
}

int languages_command(const Options& options) {
  if (options.model.empty()) {
    for (const Language& language : nllb_languages()) {
      fmt::print("{}\t{}\n", language.code, language.name);
    }
    return 0;
  }
  std::optional<CachedBundle> cached;
  const Tokenizer tokenizer = open_tokenizer(open_bundle(options, cached));
  for (const auto& language : tokenizer.languages()) {
    fmt::print("{}\t{}\n", language.code, language_name(language.code));
  }
  return 0;
}

}  // namespace ng
