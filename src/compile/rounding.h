// What does rounding as accelerators do it do to translations? (docs/verify.md)
#pragma once

#include "base/json.h"
#include "base/progress.h"
#include "translate/translator.h"

namespace ng {

// Greedy translations by the checkpoint's modules for fixed shapes in `dtype`, interpreted, beside
// those of its float32 graph on the CPU: sentences and tokens, how many of them are equal (tokens
// at their place, of the longer of two), and chrF++.
Json compare_rounded(const Path& model, DType dtype, const std::vector<TextRequest>& requests,
                     int threads, Progress& progress);

}  // namespace ng
