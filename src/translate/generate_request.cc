#include "translate/generate_request.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace ng {
namespace {

using Rows = std::vector<std::vector<int32_t>>;

// A flat list is one row. Rows are of one length, as in the tensor that transformers takes.
Rows rows_of(const Json& request, const char* key) {
  const auto found = request.find(key);
  if (found == request.end() || found->is_null()) return {};
  check(found->is_array() && !found->empty(), "\"{}\" must be a list of ids or of rows of ids",
        key);
  Rows rows;
  if (!found->front().is_array()) {
    rows.push_back(ids_of(*found, key));
    return rows;
  }
  for (const Json& row : *found) {
    rows.push_back(ids_of(row, key));
    check(!rows.back().empty(), "\"{}\": row {} is empty", key, rows.size() - 1);
    check(rows.back().size() == rows.front().size(), "\"{}\": row {} has {} ids, the first has {}",
          key, rows.size() - 1, rows.back().size(), rows.front().size());
  }
  return rows;
}

void check_rows(const Rows& rows, const char* key, int64_t vocab_size) {
  for (const auto& row : rows) {
    for (const int32_t id : row) {
      check(id < vocab_size, "\"{}\" holds id {}; the vocabulary has {}", key, id, vocab_size);
    }
  }
}

// Drops what stands after the last id that counts: nothing reads it.
void apply_mask(GenerateRow& row, const std::vector<int32_t>& mask) {
  check(mask.size() == row.input_ids.size(), "\"attention_mask\" is not of input_ids' shape");
  size_t length = 0;
  for (size_t i = 0; i < mask.size(); ++i) {
    check(mask[i] == 0 || mask[i] == 1, "\"attention_mask\" must hold 0 and 1, not {}", mask[i]);
    if (mask[i] == 1) length = i + 1;
  }
  check(length > 0, "\"attention_mask\" leaves nothing of a row");
  row.input_ids.resize(length);
  row.attention_mask.assign(mask.begin(), mask.begin() + static_cast<ptrdiff_t>(length));
  if (std::ranges::count(row.attention_mask, 0) == 0) row.attention_mask.clear();
}

void read_source(GenerateRequest& request, const Json& json, int64_t vocab_size) {
  Rows ids = rows_of(json, "input_ids");
  check(!ids.empty(), "\"input_ids\" is missing");
  check_rows(ids, "input_ids", vocab_size);
  check(ids.front().size() <= kMostSourceIds, "\"input_ids\" has a row of {} ids, at most {} fit",
        ids.front().size(), kMostSourceIds);
  const Rows masks = rows_of(json, "attention_mask");
  check(masks.empty() || masks.size() == ids.size(),
        "\"attention_mask\" is not of input_ids' shape");
  request.rows.resize(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    request.rows[i].input_ids = std::move(ids[i]);
    if (!masks.empty()) apply_mask(request.rows[i], masks[i]);
  }
}

void read_prompts(GenerateRequest& request, const Json& json, int64_t vocab_size) {
  const int32_t start = request.options.decoder_start_token_id;
  Rows prompts = rows_of(json, "decoder_input_ids");
  check_rows(prompts, "decoder_input_ids", vocab_size);
  check(prompts.empty() || prompts.size() == request.rows.size(),
        "\"decoder_input_ids\" has {} rows, input_ids has {}", prompts.size(), request.rows.size());
  prompts.resize(request.rows.size());
  const bool started = std::ranges::any_of(
      prompts, [&](const auto& prompt) { return !prompt.empty() && prompt.front() == start; });
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!started) prompts[i].insert(prompts[i].begin(), start);
    request.rows[i].prompt = std::move(prompts[i]);
  }
}

// One id for all rows, or one per row; nulls: none.
void read_forced_bos(GenerateRequest& request, const Json& json, int64_t vocab_size) {
  const char* key = "forced_bos_token_id";
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array()) {
    for (GenerateRow& row : request.rows) {
      row.forced_bos_token_id = request.options.forced_bos_token_id;
    }
  } else {
    check(found->size() == request.rows.size(), "\"{}\" has {} ids, input_ids has {} rows", key,
          found->size(), request.rows.size());
    for (size_t i = 0; i < request.rows.size(); ++i) {
      GenerationOptions row;
      apply_option(row, key, (*found)[i], "request");
      check(row.forced_bos_token_id.value_or(0) < vocab_size,
            "\"{}\" names id {}; the vocabulary has {}", key, *row.forced_bos_token_id, vocab_size);
      request.rows[i].forced_bos_token_id = row.forced_bos_token_id;
    }
  }
  request.options.forced_bos_token_id.reset();
}

void read_options(GenerationOptions& options, const Json& json) {
  constexpr std::string_view kRows[] = {"input_ids", "attention_mask", "decoder_input_ids"};
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(kRows, key) != std::end(kRows)) continue;
    if (key == "forced_bos_token_id" && value.is_array()) continue;
    if (key == "do_sample") {
      check(value.is_null() || value == false, "\"do_sample\" is {}: sampling is not supported",
            shown(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
      continue;
    }
    check(apply_option(options, key, value, "request"), "unknown field \"{}\"", shown(key));
  }
}

}  // namespace

GenerateRequest parse_generate_request(const Json& json, const GenerationOptions& defaults,
                                       int64_t vocab_size) {
  check(json.is_object(), "a request must be a JSON object");
  GenerateRequest request;
  request.options = defaults;
  read_options(request.options, json);
  check_ids(request.options, vocab_size);
  read_source(request, json, vocab_size);
  read_prompts(request, json, vocab_size);
  read_forced_bos(request, json, vocab_size);
  request.warnings = resolve(request.options, request.rows.front().prompt.size());
  return request;
}

}  // namespace ng
