// Which rows does a search that is under way put into the next step?
#pragma once

#include <algorithm>
#include <vector>

#include "translate/batch.h"

namespace ng {

// Of a prompt in one step, where sizes follow the request.
inline constexpr long kPrefillRows = 128;

// Rows whose scores nobody needs yet wait in `pending`, so that known ids (prompts, forced ids) run
// together with the first row that chooses.
class Running {
 public:
  Running(Session& session, Job& job, const Memory& memory)
      : session_(session), job_(job), memory_(memory) {
    histories_.emplace_back();
    const std::span<const int32_t> prompt = job.search.prompt();
    int64_t real = 0;
    for (size_t i = 0; i + 1 < prompt.size(); ++i) {
      extend(histories_[0]);
      add(prompt[i], session_.position_of(prompt[i], real), histories_[0]);
      real += prompt[i] == session_.pad() ? 0 : 1;
    }
    last_prompt_position_ = prompt.empty() ? 0 : session_.position_of(prompt.back(), real);
  }
  ~Running() {
    for (int32_t row : owned_) session_.release_cache_row(row);
    session_.release(memory_);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Job& job() { return job_; }
  bool done() const { return job_.search.done(); }

  // Adds rows until the search waits for scores, or is done.
  void advance_known() {
    while (!done()) {
      add_rows(job_.search.next());
      if (job_.search.next().k != 0) return;
      job_.search.advance({});
    }
  }

  // How many rows of a long prompt go ahead of the step that chooses, next: 0 when the others fit
  // into that step.
  long prefill() const {
    const auto known = static_cast<long>(pending_.size() - choosing_);
    const StaticSizes& sizes = session_.sizes();
    if (sizes.slots == 0) return known > kPrefillRows ? kPrefillRows : 0;
    const bool fit = static_cast<int64_t>(pending_.size()) <= sizes.beams;
    return fit ? 0 : std::min<long>(known, sizes.prefill_rows);
  }
  void take_prefill(std::vector<DecodeRow>& rows) {
    for (long i = 0; i < prefill(); ++i) rows.push_back(pending_[static_cast<size_t>(i)].row());
  }
  void drop_prefill() { pending_.erase(pending_.begin(), pending_.begin() + prefill()); }

  void take_rows(std::vector<DecodeRow>& rows) {
    for (const Pending& pending : pending_) rows.push_back(pending.row());
  }
  // `first` is where this search's rows begin in the step.
  void give_scores(const StepResult& result, size_t first) {
    std::vector<RowScores> scores;
    const auto k = static_cast<size_t>(result.k);
    for (size_t row = first + pending_.size() - choosing_; row < first + pending_.size(); ++row) {
      RowScores one;
      one.scores = std::span(result.scores).subspan(row * k, k);
      if (!result.ids.empty()) one.ids = std::span(result.ids).subspan(row * k, k);
      one.log_sum_exp = result.log_sum_exp[row];
      scores.push_back(one);
    }
    pending_.clear();
    job_.search.advance(scores);
  }
  size_t rows() const { return pending_.size(); }

 private:
  struct Pending {
    int32_t token, position;
    std::vector<int32_t> history;
    Memory memory;
    DecodeRow row() const { return {token, position, history, memory}; }
  };

  void extend(std::vector<int32_t>& history) {
    owned_.push_back(session_.new_cache_row());
    history.push_back(owned_.back());
  }
  void add(int32_t token, int32_t position, const std::vector<int32_t>& history) {
    pending_.push_back({token, position, history, memory_});
  }
  void add_rows(const StepNeeds& needs) {
    std::vector<std::vector<int32_t>> next;
    for (size_t r = 0; r < needs.tokens.size(); ++r) {
      next.push_back(histories_[static_cast<size_t>(needs.parents[r])]);
      extend(next.back());
      const bool in_prompt = static_cast<size_t>(needs.position) + 1 == job_.search.prompt().size();
      add(needs.tokens[r],
          in_prompt ? last_prompt_position_ : session_.position_of(needs.tokens[r], needs.position),
          next.back());
    }
    histories_ = std::move(next);
    choosing_ = needs.tokens.size();
  }

  Session& session_;
  Job& job_;
  Memory memory_;
  int32_t last_prompt_position_ = 0;
  std::vector<std::vector<int32_t>> histories_;  // cache rows of every live row of the search
  std::vector<int32_t> owned_;
  std::vector<Pending> pending_;
  size_t choosing_ = 0;  // the last rows of pending_: those whose scores are wanted
};

}  // namespace ng
