// Which languages does NLLB-200 know, and under which codes and English names?
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

struct Language {
  std::string_view code;  // FLORES-200, as transformers spells it
  std::string_view name;
};

// NLLB's 202, in the order of their ids (fairseq's and transformers' list).
std::span<const Language> nllb_languages();

// "" for a code that is not NLLB's.
std::string_view language_name(std::string_view code);

// Whether `text` has the form of a FLORES code: three lower-case letters, _, a script ("deu_Latn").
bool is_language_code(std::string_view text);

// FLORES and fairseq say sat_Olck where transformers says sat_Beng: the other spelling, or "".
std::string_view other_spelling(std::string_view code);

// Up to five of `codes` that somebody who wrote `wanted` (a code, an ISO code, an English name) may
// have meant, best first.
std::vector<std::string> close_languages(std::string_view wanted,
                                         std::span<const std::string> codes);

}  // namespace ng
