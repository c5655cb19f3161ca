// Text to ids and back, as NLLB's tokenizers do it, with its languages and its framing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace ng {

struct TokenizerData;

// Whose ids? transformers 4.57's fast tokenizer, or SentencePiece itself (ids of transformers, +
// 1).
enum class Dialect { hf, sentencepiece };

struct EncodeOptions {
  Dialect dialect = Dialect::hf;
  // hf only. true: "</s>", "fra_Latn" and other special tokens in the text become their ids, as in
  // transformers; false: they are text (transformers' split_special_tokens=True).
  bool special = false;
};

struct DecodeOptions {
  Dialect dialect = Dialect::hf;
  bool skip_special = true;  // hf only, <unk> included; SentencePiece never shows control pieces
};

struct Encoded {
  std::vector<int32_t> ids;
  std::vector<uint32_t> offsets;  // for each id the byte of the text at which it begins, ascending
};

// Immutable; every const member may be called from several threads at once. Texts are UTF-8 of
// at most 64 MiB; invalid bytes count as U+FFFD (see repair_utf8; offsets are then those of the
// repaired text).
class Tokenizer {
 public:
  // Reads a Hugging Face directory (tokenizer_files.h). present: whether it has a tokenizer.
  static Tokenizer open(const Path& model_directory);
  static bool present(const Path& model_directory);

  // The form a bundle stores; parse throws User, naming `what`, on anything but serialize's bytes.
  std::string serialize() const;
  static Tokenizer parse(std::string_view serialized, std::string_view what = "tokenizer");

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The text's own ids, without language and </s>.
  std::vector<int32_t> encode_content(std::string_view text,
                                      const EncodeOptions& options = {}) const;
  Encoded encode_with_offsets(std::string_view text, const EncodeOptions& options = {}) const;
  // [source] content </s>; content </s> [source] when the checkpoint's legacy_behaviour is set.
  std::vector<int32_t> frame(std::span<const int32_t> content, int32_t source) const;
  // Ids that have no token are dropped, whatever their value.
  std::string decode(std::span<const int32_t> ids, const DecodeOptions& options = {}) const;

  struct LanguageToken {
    std::string code;
    int32_t id;
  };
  const std::vector<LanguageToken>& languages() const;  // ascending ids
  // Accepts sat_Olck for sat_Beng and the reverse. Unknown: User, with the codes that come close.
  int32_t language_id(std::string_view code) const;

  int32_t bos() const;
  int32_t pad() const;
  int32_t eos() const;
  int32_t unk() const;
  // Highest id + 1. More than config.json's vocab_size: the files do not belong together.
  size_t size() const;
  std::string_view piece(int32_t id) const;  // "" for an id without token
  bool legacy() const;

 private:
  struct State;
  explicit Tokenizer(TokenizerData data);
  std::unique_ptr<const State> state_;
};

}  // namespace ng
