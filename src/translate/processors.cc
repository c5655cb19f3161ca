#include "translate/processors.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace ng {
namespace {

void sort_distinct(std::vector<int32_t>& ids) {
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

bool holds(const std::vector<int32_t>& sorted, int32_t id) {
  return std::ranges::binary_search(sorted, id);
}

}  // namespace

Processors::Processors(GenerationOptions options)
    : options_(std::move(options)),
      penalty_(static_cast<float>(options_.repetition_penalty)),
      suppressed_(options_.suppress_tokens) {
  sort_distinct(suppressed_);
  sort_distinct(options_.eos_token_id);
  sort_distinct(options_.forced_eos_token_id);
  always_banned_ = suppressed_;
  auto& words = options_.bad_words_ids;
  const auto is_eos = [&](const auto& word) {
    return word.size() == 1 && holds(options_.eos_token_id, word.front());
  };
  std::erase_if(words, is_eos);  // transformers leaves an end out of the bad words
  for (const auto& word : words) {
    if (word.size() == 1) always_banned_.push_back(word.front());
  }
  sort_distinct(always_banned_);
}

std::vector<int32_t> Processors::forced(size_t length) const {
  std::vector<int32_t> ids;
  if (length == 1 && options_.forced_bos_token_id) ids = {*options_.forced_bos_token_id};
  if (length + 1 == static_cast<size_t>(options_.max_length) &&
      !options_.forced_eos_token_id.empty()) {
    ids = options_.forced_eos_token_id;
  }
  if (ids.empty()) return ids;
  std::erase_if(ids, [&](int32_t id) { return holds(suppressed_, id); });
  check(!ids.empty(), "\"suppress_tokens\" holds the id that is forced at position {}", length);
  return ids;
}

void Processors::ban_repeats(std::span<const int32_t> ids, std::vector<int32_t>& banned) const {
  const auto size = static_cast<size_t>(options_.no_repeat_ngram_size);
  if (size == 0 || ids.size() < size) return;
  const auto tail = ids.last(size - 1);
  for (size_t i = 0; i + size <= ids.size(); ++i) {
    if (std::ranges::equal(ids.subspan(i, size - 1), tail)) banned.push_back(ids[i + size - 1]);
  }
}

// transformers looks for a word only once there are as many ids as it has, its last one included.
void Processors::ban_words(std::span<const int32_t> ids, std::vector<int32_t>& banned) const {
  for (const auto& word : options_.bad_words_ids) {
    if (word.size() == 1 || word.size() > ids.size()) continue;
    const auto start = std::span(word).first(word.size() - 1);
    if (std::ranges::equal(start, ids.last(start.size()))) banned.push_back(word.back());
  }
}

void Processors::find_edits(std::span<const int32_t> ids, RowEdits& edits) const {
  edits.banned.clear();
  edits.penalised.clear();
  ban_repeats(ids, edits.banned);
  ban_words(ids, edits.banned);
  if (ids.size() < static_cast<size_t>(options_.min_length)) {
    edits.banned.insert(edits.banned.end(), options_.eos_token_id.begin(),
                        options_.eos_token_id.end());
  }
  sort_distinct(edits.banned);
  std::erase_if(edits.banned, [&](int32_t id) { return holds(always_banned_, id); });
  if (penalty_ == 1) return;
  edits.penalised.assign(ids.begin(), ids.end());
  sort_distinct(edits.penalised);
  std::erase_if(edits.penalised,
                [&](int32_t id) { return holds(always_banned_, id) || holds(edits.banned, id); });
}

float Processors::edited(float score, int32_t id, const RowEdits& edits) const {
  if (holds(always_banned_, id) || holds(edits.banned, id)) {
    return -std::numeric_limits<float>::infinity();
  }
  if (!holds(edits.penalised, id)) return score;
  return score < 0 ? score * penalty_ : score / penalty_;
}

}  // namespace ng
