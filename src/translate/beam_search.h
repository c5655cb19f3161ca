// Which ids come next? Greedy and beam search of transformers' generate (4.54 and later) for one
// sentence: a state machine over scores that knows neither the model nor the text.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "translate/processors.h"

namespace ng {

// What advance() must be given next. Only live rows are asked for: one after the prompt and after
// a forced id, num_beams then.
struct StepNeeds {
  std::vector<int32_t> tokens;   // [rows], the last id of each row
  std::vector<int32_t> parents;  // [rows], the row of the step before that each continues; first: 0
  int position = 0;              // of `tokens` in their sequences, the prompt's first id being 0
  int k = 0;                     // best candidates a row; 0: the next id is forced, none are needed
  bool full_row = false;         // candidates do not do (an edit may raise a score)
};

// The model's scores after one row. Either the k best ids or, with `ids` empty, every id's [vocab];
// a whole row may stand in for candidates, and gives the same result.
struct RowScores {
  std::span<const float> scores;  // raw
  std::span<const int32_t> ids;   // at least StepNeeds::k, the highest scores; of equals the lowest
  float log_sum_exp = 0;          // of the whole row of raw scores
};

enum class FinishReason { Eos, Length };
std::string_view name(FinishReason reason);  // "eos", "length"

struct Hypothesis {
  std::vector<int32_t> ids;  // the prompt first; the end of sequence last, when it was generated
  // Sum of log-probabilities / length^length_penalty: of the edited ones; greedy: of the model's
  // own.
  float score = 0;
  FinishReason reason = FinishReason::Length;
};

class BeamSearch {
 public:
  // `options` are resolved for the prompt (resolve()). The first step is the one after the prompt's
  // last id: the model runs prompt()[0 .. size - 1) before, without scores.
  BeamSearch(GenerationOptions options, std::vector<int32_t> prompt, int64_t vocab_size);

  std::span<const int32_t> prompt() const { return prompt_; }
  const GenerationOptions& options() const { return processors_.options(); }
  int beams() const { return static_cast<int>(beams_); }
  int max_length() const { return static_cast<int>(max_length_); }
  bool done() const { return done_; }  // may be before the first step, when every id is forced

  // What the model must run now. With k = 0 it runs too, so that its cache has the position.
  const StepNeeds& next() const { return needs_; }

  // One RowScores for each row of next(), none with k = 0. User: fewer ids can be chosen than there
  // are beams; a score is not a number.
  void advance(std::span<const RowScores> rows);

  // The num_return_sequences best, best first. User: forced ids left fewer sequences.
  std::vector<Hypothesis> results() const;

 private:
  struct Row {
    std::vector<int32_t> ids;
    float score = 0;            // sum of the edited log-probabilities
    float log_probability = 0;  // greedy: sum of the model's own
  };
  struct Candidate {
    float score;  // of the row with this id: what decides
    float raw;    // among equals of a row: the model's own score; greedy: the score
    int32_t row, id;
    float log_probability = 0;  // of the row with this id, greedy
  };

  void prepare();                                // what the next step needs
  void gather(std::span<const RowScores> rows);  // 1 the candidates of every row
  void order();                                  // 2 the best of them, best first
  void finish();                                 // 3 those that end become hypotheses
  void extend();                                 // 4 those that do not become rows
  void close();                                  // 5 is anything better still possible?

  void gather_row(int row, const RowScores& scores);
  void add_candidate(int row, float raw, int32_t id, float log_sum_exp);
  void take_best(std::span<const float> scores, const RowEdits& edits);
  bool greedy() const { return beams_ == 1; }
  bool ends(const Candidate& candidate) const;
  float length_divisor(size_t new_ids) const;  // new_ids ^ length_penalty

  Processors processors_;
  size_t beams_;
  size_t max_length_;
  int64_t vocab_size_;
  std::vector<int32_t> prompt_;
  bool done_ = false;

  std::vector<Row> rows_;             // live, best first, all of one length
  std::vector<RowEdits> edits_;       // of rows_
  std::vector<int32_t> forced_;       // the only choices of the step, if any
  std::vector<Hypothesis> finished_;  // at most beams_, best first
  StepNeeds needs_;

  std::vector<Row> next_rows_;  // memory that is used again
  std::vector<Candidate> candidates_;
  std::vector<Candidate> best_;  // of a whole row
};

}  // namespace ng
