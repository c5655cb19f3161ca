// How much alike are two texts? chrF++, as sacrebleu 2 computes it (chrF2++).
#pragma once

#include <span>
#include <string>

namespace ng {

// Of texts (UTF-8) and as many references, together as a corpus: 0 to 100.
double chrf(std::span<const std::string> texts, std::span<const std::string> references);

}  // namespace ng
