// What does one line of `generate` ask for?
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "translate/generation_options.h"

namespace ng {

inline constexpr size_t kMostSourceIds = 8192;  // of one row

struct GenerateRow {
  std::vector<int32_t> input_ids;       // up to the last one that counts
  std::vector<uint8_t> attention_mask;  // one per id, 1: counts; empty: every id counts
  std::vector<int32_t> prompt;          // decoder ids, begins with decoder_start_token_id (*)
  std::optional<int32_t> forced_bos_token_id;
};
// (*) As transformers has it: the id is put before all rows unless one of them begins with it.

struct GenerateRequest {
  std::vector<GenerateRow> rows;
  GenerationOptions options;          // resolved; forced_bos_token_id stands in the rows
  std::vector<std::string> warnings;  // about what runs, but not as asked
};

// Reads and checks a request: types, ranges, ids against the vocabulary, shapes, unknown fields and
// do_sample by name. Everything wrong is User.
GenerateRequest parse_generate_request(const Json& request, const GenerationOptions& defaults,
                                       int64_t vocab_size);

}  // namespace ng
