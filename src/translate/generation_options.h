// What may a search be told? transformers' generation options by their own names, where their
// defaults come from and what their combinations mean (transformers 4.57).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace ng {

inline constexpr int kMostBeams = 64;
inline constexpr int kMostTargetIds = 8192;  // max_length

enum class EarlyStopping {
  No,     // stop when the best running beam cannot beat the worst finished one at today's length
  Yes,    // stop with num_beams finished sequences
  Never,  // as No, but at the longest possible length where length_penalty favours length
};

// Lengths count decoder ids, the prompt among them; "new" leaves the prompt out.
struct GenerationOptions {
  int num_beams = 1;  // 1: greedy
  int num_return_sequences = 1;
  int max_length = 20;
  bool max_length_given = false;  // by the request, not by a file
  std::optional<int> max_new_tokens;
  int min_length = 0;
  std::optional<int> min_new_tokens;
  double length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::No;
  double repetition_penalty = 1;
  int no_repeat_ngram_size = 0;  // 0: any may repeat
  std::vector<std::vector<int32_t>> bad_words_ids;
  std::vector<int32_t> suppress_tokens;
  std::optional<int32_t> forced_bos_token_id;
  std::vector<int32_t> forced_eos_token_id;  // empty: none
  std::vector<int32_t> eos_token_id;         // empty: only the length ends a sequence
  int32_t decoder_start_token_id = 2;
  int max_position_embeddings = 1024;  // bounds transformers' own default of max_length, no more
};

// The defaults of a checkpoint: generation_config.json alone, or without it (null) the legacy keys
// of config.json, completed by M2M100Config's ids. User: a value of the wrong type or out of range,
// and an option that would change results and that this search does not have.
GenerationOptions defaults_from(const Json& config, const Json* generation_config);

// Sets the option named `key`; false when there is none of that name. A null puts an option that
// can be absent to absent and leaves any other as it is. `what` names the source in errors.
bool apply_option(GenerationOptions& options, const std::string& key, const Json& value,
                  std::string_view what);

// Every id that the options name is in [0, vocab_size), or User.
void check_ids(const GenerationOptions& options, int64_t vocab_size);

// Makes max_length and min_length final for a prompt of that many decoder ids: the new-token
// counts win. Returns a warning for each minimum that cannot be met (it runs all the same). User:
// nothing left to generate, more than kMostTargetIds, more sequences than beams.
std::vector<std::string> resolve(GenerationOptions& options, size_t prompt_length);

// The ids of a JSON list: integers in [0, 2^31). `what` names the list.
std::vector<int32_t> ids_of(const Json& list, std::string_view what);

}  // namespace ng
