#include "translate/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace ng {
namespace {

// transformers' score of what does not exist. Nothing at or below it can finish.
constexpr float kNoScore = -1.0e9F;

constexpr auto by_score = [](const auto& a, const auto& b) { return a.score > b.score; };

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::Eos: return "eos";
    case FinishReason::Length: return "length";
  }
  return "";
}

BeamSearch::BeamSearch(GenerationOptions options, std::vector<int32_t> prompt, int64_t vocab_size)
    : processors_(std::move(options)),
      beams_(static_cast<size_t>(processors_.options().num_beams)),
      max_length_(static_cast<size_t>(processors_.options().max_length)),
      vocab_size_(vocab_size),
      prompt_(std::move(prompt)) {
  NG_CHECK(!prompt_.empty() && prompt_.size() < max_length_, "a prompt of {} ids of {}",
           prompt_.size(), max_length_);
  const float longest = length_divisor(max_length_ - prompt_.size());
  check(greedy() || std::isnormal(longest),
        "length_penalty is {}: {} ids to that power is no float32",
        processors_.options().length_penalty, max_length_ - prompt_.size());
  rows_.push_back({prompt_, 0});
  needs_.tokens = {prompt_.back()};
  needs_.parents = {0};
  prepare();
}

void BeamSearch::prepare() {
  const size_t length = rows_.front().ids.size();
  needs_.position = static_cast<int>(length) - 1;
  needs_.k = 0;
  needs_.full_row = false;
  forced_ = processors_.forced(length);
  if (!forced_.empty()) {
    if (length + 1 == max_length_) advance({});  // nothing follows that would read the cache
    return;
  }
  edits_.resize(rows_.size());
  size_t edited = 0;
  for (size_t row = 0; row < rows_.size(); ++row) {
    processors_.find_edits(rows_[row].ids, edits_[row]);
    edited = std::max(edited, processors_.edited_count(edits_[row]));
  }
  // The best n that go on may stand behind every end; each edit may take one more away. Greedy
  // takes one, whether it ends or not.
  const size_t wanted = greedy() ? 1 : beams_ + processors_.options().eos_token_id.size();
  needs_.k = static_cast<int>(std::min<int64_t>(vocab_size_, int64_t(wanted + edited)));
  needs_.full_row = processors_.may_raise();
}

void BeamSearch::advance(std::span<const RowScores> rows) {
  NG_CHECK(!done_, "the search is done");
  gather(rows);
  order();
  finish();
  extend();
  close();
  if (!done_) prepare();
}

void BeamSearch::gather(std::span<const RowScores> rows) {
  candidates_.clear();
  NG_CHECK(rows.size() == (forced_.empty() ? rows_.size() : 0), "{} rows of scores for {}",
           rows.size(), rows_.size());
  for (size_t row = 0; row < rows_.size(); ++row) {
    const auto at = static_cast<int32_t>(row);
    for (const int32_t id : forced_) {
      candidates_.push_back({rows_[row].score, 0, at, id, rows_[row].log_probability});
    }
    if (forced_.empty()) gather_row(at, rows[row]);
  }
}

void BeamSearch::gather_row(int row, const RowScores& given) {
  if (given.ids.empty()) {
    NG_CHECK(std::ssize(given.scores) == vocab_size_, "{} scores, vocabulary {}",
             given.scores.size(), vocab_size_);
    take_best(given.scores, edits_[static_cast<size_t>(row)]);
    for (const Candidate& best : best_) add_candidate(row, best.raw, best.id, given.log_sum_exp);
    return;
  }
  NG_CHECK(!needs_.full_row && std::ssize(given.ids) >= needs_.k &&
               given.ids.size() == given.scores.size(),
           "{} candidates, {} needed", given.ids.size(), needs_.k);
  for (size_t i = 0; i < given.ids.size(); ++i) {
    add_candidate(row, given.scores[i], given.ids[i], given.log_sum_exp);
  }
}

void BeamSearch::add_candidate(int row, float raw, int32_t id, float log_sum_exp) {
  NG_CHECK(id >= 0 && id < vocab_size_, "candidate {}, vocabulary {}", id, vocab_size_);
  const auto at = static_cast<size_t>(row);
  // A log-probability is at most 0; the rounding of the difference may say otherwise.
  const float own = greedy() ? raw : std::min(raw - log_sum_exp, 0.0F);
  check(!std::isnan(own) && raw < INFINITY, "the model's score of id {} is not a number", id);
  const float edited = processors_.edited(own, id, edits_[at]);
  if (edited == -INFINITY) return;
  const float score = greedy() ? edited : edited + rows_[at].score;
  const float sum = rows_[at].log_probability + std::min(raw - log_sum_exp, 0.0F);
  candidates_.push_back({score, greedy() ? score : raw, row, id, sum});
}

// The k best of a whole row into best_, as a backend would choose them, and every id whose edit may
// have raised it.
void BeamSearch::take_best(std::span<const float> scores, const RowEdits& edits) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.raw != b.raw ? a.raw > b.raw : a.id < b.id;
  };
  best_.clear();
  for (size_t id = 0; id < scores.size(); ++id) {
    check(!std::isnan(scores[id]), "the model's score of id {} is not a number", id);
    if (std::ssize(best_) == needs_.k) {
      if (scores[id] <= best_.front().raw) continue;  // the heap's front is its worst
      std::ranges::pop_heap(best_, better);
      best_.pop_back();
    }
    best_.push_back({0, scores[id], 0, static_cast<int32_t>(id), 0});
    std::ranges::push_heap(best_, better);
  }
  if (!processors_.may_raise()) return;
  const Candidate worst = best_.front();
  for (const int32_t id : edits.penalised) {
    const Candidate other = {0, scores[static_cast<size_t>(id)], 0, id, 0};
    if (better(worst, other)) best_.push_back(other);
  }
}

void BeamSearch::order() {
  // transformers continues -1e9 copies of the prompt here, whose order torch.topk leaves open.
  check(!forced_.empty() || candidates_.size() >= beams_,
        "{} tokens can be chosen at position {}, fewer than the {} beams: use fewer beams or ban "
        "fewer tokens",
        candidates_.size(), needs_.position + 1, beams_);
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.row != b.row) return a.row < b.row;
    return a.raw != b.raw ? a.raw > b.raw : a.id < b.id;
  };
  const size_t ends = processors_.options().eos_token_id.size();
  const size_t most = std::min(candidates_.size(), (1 + ends) * beams_);
  const auto middle = candidates_.begin() + static_cast<ptrdiff_t>(most);
  std::partial_sort(candidates_.begin(), middle, candidates_.end(), better);
  candidates_.erase(middle, candidates_.end());
}

bool BeamSearch::ends(const Candidate& candidate) const {
  return rows_.front().ids.size() + 1 >= max_length_ ||
         std::ranges::binary_search(processors_.options().eos_token_id, candidate.id);
}

float BeamSearch::length_divisor(size_t new_ids) const {
  const double penalty = processors_.options().length_penalty;
  return static_cast<float>(std::pow(static_cast<double>(new_ids), penalty));
}

void BeamSearch::finish() {
  const size_t new_ids = rows_.front().ids.size() + 1 - prompt_.size();
  const float divisor = length_divisor(new_ids);
  for (size_t i = 0; i < std::min(beams_, candidates_.size()); ++i) {
    const Candidate& candidate = candidates_[i];
    if (!ends(candidate)) continue;
    Hypothesis hypothesis;
    hypothesis.score = (greedy() ? candidate.log_probability : candidate.score) / divisor;
    if (hypothesis.score <= kNoScore) continue;
    const auto place = std::ranges::upper_bound(finished_, hypothesis, by_score);
    if (finished_.size() == beams_ && place == finished_.end()) continue;
    hypothesis.ids = rows_[static_cast<size_t>(candidate.row)].ids;
    hypothesis.ids.push_back(candidate.id);
    if (std::ranges::binary_search(processors_.options().eos_token_id, candidate.id)) {
      hypothesis.reason = FinishReason::Eos;
    }
    finished_.insert(place, std::move(hypothesis));
    if (finished_.size() > beams_) finished_.pop_back();
  }
}

void BeamSearch::extend() {
  size_t count = 0;
  needs_.tokens.clear();
  needs_.parents.clear();
  for (const Candidate& candidate : candidates_) {
    if (count == beams_) break;
    if (ends(candidate)) continue;
    if (next_rows_.size() == count) next_rows_.emplace_back();
    Row& row = next_rows_[count++];
    row.ids = rows_[static_cast<size_t>(candidate.row)].ids;
    row.ids.push_back(candidate.id);
    row.score = candidate.score;
    row.log_probability = candidate.log_probability;
    needs_.tokens.push_back(candidate.id);
    needs_.parents.push_back(candidate.row);
  }
  next_rows_.resize(count);
  std::swap(rows_, next_rows_);
}

void BeamSearch::close() {
  const bool full = finished_.size() == beams_;
  const GenerationOptions& options = processors_.options();
  done_ = rows_.empty() || (full && (greedy() || options.early_stopping == EarlyStopping::Yes));
  if (done_ || greedy()) return;
  const bool longest = options.early_stopping == EarlyStopping::Never && options.length_penalty > 0;
  const size_t length = longest ? max_length_ : rows_.front().ids.size();
  const float best = rows_.front().score / length_divisor(length - prompt_.size());
  const float worst = full ? finished_.back().score : kNoScore;
  done_ = !(best > worst);
}

std::vector<Hypothesis> BeamSearch::results() const {
  NG_CHECK(done_, "the search goes on");
  const auto wanted = static_cast<size_t>(processors_.options().num_return_sequences);
  check(finished_.size() >= wanted,
        "num_return_sequences is {}, but only {} sequences could be made", wanted,
        finished_.size());
  return {finished_.begin(), finished_.begin() + static_cast<ptrdiff_t>(wanted)};
}

}  // namespace ng
