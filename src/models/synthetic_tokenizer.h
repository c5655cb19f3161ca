// Which tokenizer files go with random weights? Made-up ones, in the real ones' form and size.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"

namespace ng {

// A BPE vocabulary without a character map (the text is taken as it is): merges of letters of a few
// scripts first, in the order in which they apply, then `characters` single characters.
struct SyntheticVocabulary {
  std::vector<std::string> pieces;  // behind <unk>, <s> and </s>
  std::vector<std::pair<std::string, std::string>>
      merges;  // all splits, as transformers finds them
};
SyntheticVocabulary make_vocabulary(size_t pieces, size_t characters);

// sentencepiece.bpe.model, tokenizer.json, tokenizer_config.json and special_tokens_map.json of an
// NLLB tokenizer; languages in the order of their ids.
void write_nllb_tokenizer(const Path& directory, const SyntheticVocabulary& vocabulary,
                          const std::vector<std::string>& languages);

// sentencepiece.bpe.model, vocab.json, tokenizer_config.json and special_tokens_map.json of an
// M2M100 tokenizer with its 100 languages.
void write_m2m100_tokenizer(const Path& directory, const SyntheticVocabulary& vocabulary);

}  // namespace ng
