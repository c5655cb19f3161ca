// Which score edits do the options ask for? transformers' logits processors, reduced to what they
// come to in their order: a penalty, then bans, then a forced choice, then suppress_tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "translate/generation_options.h"

namespace ng {

// What one step changes in one row: sorted distinct ids, none in both, none that is always banned.
struct RowEdits {
  std::vector<int32_t> penalised;
  std::vector<int32_t> banned;
};

class Processors {
 public:
  explicit Processors(GenerationOptions options);  // resolved

  const GenerationOptions& options() const { return options_; }

  // The ids of which the next is one, each with score 0 whatever the model says; empty: the model
  // chooses. `length` counts the decoder ids so far. User: suppress_tokens leaves none of them.
  std::vector<int32_t> forced(size_t length) const;

  // The edits of a row whose decoder ids so far are `ids`, prompt included; reuses `edits`' memory.
  void find_edits(std::span<const int32_t> ids, RowEdits& edits) const;

  // How many distinct ids the step edits in that row.
  size_t edited_count(const RowEdits& edits) const {
    return always_banned_.size() + edits.penalised.size() + edits.banned.size();
  }

  // The score of `id` after its edits: -inf when it is banned.
  float edited(float score, int32_t id, const RowEdits& edits) const;

  // An edit may raise a score, so the best before the edits need not hold the best after them.
  bool may_raise() const { return penalty_ < 1; }

 private:
  void ban_repeats(std::span<const int32_t> ids, std::vector<int32_t>& banned) const;
  void ban_words(std::span<const int32_t> ids, std::vector<int32_t>& banned) const;

  GenerationOptions options_;
  float penalty_;                       // repetition_penalty as torch multiplies with it
  std::vector<int32_t> suppressed_;     // sorted
  std::vector<int32_t> always_banned_;  // sorted: suppressed_ and the bad words of one id
};

}  // namespace ng
