// What do the tokenizer files of a Hugging Face directory say? Each reader gives TokenizerData.
#pragma once

#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_data.h"

namespace ng {

inline constexpr const char* kTokenizerJson = "tokenizer.json";
inline constexpr const char* kSentencePieceModel = "sentencepiece.bpe.model";

// tokenizer.json (both forms of merges): a BPE model with NLLB's pre-tokenizer and decoder. Kinds
// that NLLB's files do not use are refused by name (User). Added tokens are as listed, bos, pad and
// eos not set yet.
TokenizerData read_tokenizer_json(std::string_view text, std::string_view what);

// An entry of tokenizer.json's "added_tokens" or tokenizer_config.json's "added_tokens_decoder".
AddedToken read_added_token(const Json& entry, int64_t id, std::string_view what);

// What transformers' own converter makes of a .model: ids 0–3 <s> <pad> </s> <unk>, piece i ≥ 3 at
// i + 1, merges by descending score. Only those four are added tokens; other specials are not in
// it.
TokenizerData convert_sentencepiece(const SentencePieceModel& model, std::string_view what);

// Whether there is a tokenizer.json or a sentencepiece.bpe.model that is read: one beside a
// vocab.json is M2M100's, whose ids that file gives.
bool has_nllb_tokenizer(const Path& directory);

// All of `directory`'s files together. Where both tokenizer.json and sentencepiece.bpe.model are
// there, they must agree in pieces, merges and character map: the first difference is named (User).
// Ids come from tokenizer.json, tokenizer_config.json (added_tokens_decoder) and added_tokens.json;
// where none of them gives languages, fairseq's layout does: 202 languages after the pieces,
// <mask>.
TokenizerData read_tokenizer_files(const Path& directory);

}  // namespace ng
