#include "translate/batch.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/machine.h"

namespace ng {
namespace {

constexpr int64_t kRowsInFlight = 128;   // without a given number of sentences
constexpr int64_t kEncodeTokens = 4096;  // of one encode, unless one source is longer
constexpr long kPrefillRows = 128;       // of a prompt in one step, where sizes follow the request

// A search that is under way. Rows whose scores nobody needs yet wait in `pending`, so that known
// ids (prompts, forced ids) run together with the first row that chooses.
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

// Why a search that is done has no results, "" if it has.
std::string missing_results(const BeamSearch& search) {
  try {
    search.results();
    return "";
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::User) throw;
    return error.what();
  }
}

class Batch {
 public:
  Batch(Session& session, std::vector<Job>& jobs, const BatchOptions& options)
      : session_(session), jobs_(jobs), options_(options), order_(jobs.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
      return jobs[a].source.size() > jobs[b].source.size();
    });
  }
  void run() {
    while (next_ < order_.size() || !running_.empty()) {
      admit();
      prefill();
      choose(false);
      choose(true);
      std::erase_if(running_, [](const auto& running) {
        Job& job = running->job();
        if (running->done() && job.error.empty()) job.error = missing_results(job.search);
        return running->done() || !job.error.empty();
      });
    }
  }

 private:
  bool has_room(const Job& job, size_t in_flight, int64_t rows) const;
  void admit();
  void start(std::span<Job* const> jobs);
  void prefill();
  bool needs_full_rows(const StepNeeds& needs) const;
  void choose(bool full_rows);

  Session& session_;
  std::vector<Job>& jobs_;
  BatchOptions options_;
  std::vector<size_t> order_;
  size_t next_ = 0;
  std::vector<std::unique_ptr<Running>> running_;
};

// Why the modules of a static target cannot run the job, "" if they can.
std::string beyond_sizes(const StaticSizes& sizes, const Job& job) {
  if (sizes.slots == 0) return "";
  const auto source = static_cast<int64_t>(job.source.size());
  const auto target = static_cast<int64_t>(job.search.max_length());
  const auto beams = static_cast<int64_t>(job.search.beams());
  const char* const kAdvice = "ask for less, or compile the checkpoint with a larger";
  if (source > sizes.source) {
    return fmt::format("{} source ids, the bundle's modules take {}: {} --source-lengths", source,
                       sizes.source, kAdvice);
  }
  if (target > sizes.target) {
    return fmt::format("max_length {}, the bundle's modules take {}: {} --target-length", target,
                       sizes.target, kAdvice);
  }
  if (beams > sizes.beams) {
    return fmt::format("num_beams {}, the bundle's modules take {}: {} --beams", beams, sizes.beams,
                       kAdvice);
  }
  return "";
}

// Why the modules of a static target that give no whole rows cannot run the step.
std::string without_logits(const Session& session, const StepNeeds& needs) {
  const int64_t given = session.sizes().candidates;
  std::string needed = fmt::format("the best {} ids of a step", needs.k);
  if (needs.full_row) {
    needed = fmt::format("the scores of all {} ids, for a repetition_penalty below 1",
                         session.vocabulary());
  }
  const std::string best = given > 0 ? fmt::format("best {}", given) : "best";
  return fmt::format("needs {}; the bundle's modules give the {}: compile with --with-logits",
                     needed, best);
}

// What a job may come to need at most.
uint64_t needed_bytes(const Session& session, const Job& job) {
  const auto steps = static_cast<int64_t>(job.search.max_length());
  return session.memory_bytes(static_cast<int64_t>(job.source.size())) +
         session.cache_bytes(steps * job.search.beams());
}

bool Batch::has_room(const Job& job, size_t in_flight, int64_t rows) const {
  const int64_t slots = session_.sizes().slots;
  if (slots > 0 && in_flight >= static_cast<size_t>(slots)) return false;
  if (options_.sentences > 0) return in_flight < static_cast<size_t>(options_.sentences);
  return slots > 0 || in_flight == 0 || rows + job.search.beams() <= kRowsInFlight;
}

void Batch::admit() {
  std::vector<Job*> fresh;
  int64_t tokens = 0;
  int64_t rows = 0;
  for (const auto& running : running_) rows += running->job().search.beams();
  uint64_t reserved = 0;
  for (const auto& running : running_) reserved += needed_bytes(session_, running->job());
  while (next_ < order_.size()) {
    Job& job = jobs_[order_[next_]];
    job.error = beyond_sizes(session_.sizes(), job);
    if (!job.error.empty()) {
      ++next_;
      continue;
    }
    const size_t in_flight = running_.size() + fresh.size();
    if (!has_room(job, in_flight, rows)) break;
    const uint64_t needed = needed_bytes(session_, job), available = available_memory();
    if (reserved + needed > available) {
      if (in_flight > 0) break;  // later, alone
      job.error = fmt::format(
          "needs up to {} MB of caches, {} MB of memory are available: lower "
          "num_beams or max_length",
          needed >> 20, available >> 20);
      ++next_;
      continue;
    }
    if (!fresh.empty() && tokens + static_cast<int64_t>(job.source.size()) > kEncodeTokens) break;
    reserved += needed;
    rows += job.search.beams();
    tokens += static_cast<int64_t>(job.source.size());
    fresh.push_back(&job);
    ++next_;
  }
  if (!fresh.empty()) start(fresh);
}

void Batch::start(std::span<Job* const> jobs) {
  std::vector<Source> sources;
  for (const Job* job : jobs) sources.push_back({job->source, job->mask});
  const std::vector<Memory> memories = session_.encode(sources);
  for (size_t i = 0; i < jobs.size(); ++i) {
    running_.push_back(std::make_unique<Running>(session_, *jobs[i], memories[i]));
  }
  for (auto it = running_.end() - static_cast<long>(jobs.size()); it != running_.end(); ++it) {
    (*it)->advance_known();
  }
}

// Sentences of a static target together, which is one run of a module; where memory follows the
// request one at a time, so that a step's activations stay small.
void Batch::prefill() {
  for (;;) {
    std::vector<Running*> parts;
    std::vector<DecodeRow> rows;
    for (const auto& running : running_) {
      if (running->done() || running->prefill() == 0) continue;
      if (!parts.empty() && session_.sizes().slots == 0) break;
      parts.push_back(running.get());
      running->take_prefill(rows);
    }
    if (parts.empty()) return;
    StepResult ignored;
    session_.step(rows, Wanted::nothing, 0, ignored);
    for (Running* running : parts) running->drop_prefill();
  }
}

// Edits that raise scores need whole rows, and more of them than a static target gives candidates.
bool Batch::needs_full_rows(const StepNeeds& needs) const {
  const int64_t given = session_.sizes().candidates;
  return needs.full_row || (given > 0 && static_cast<int64_t>(needs.k) > given);
}

// One step of all searches that want candidates, or of those that want whole rows.
void Batch::choose(bool full_rows) {
  std::vector<DecodeRow> rows;
  std::vector<std::pair<Running*, size_t>> parts;
  int64_t k = 0;
  for (const auto& running : running_) {
    if (running->done() || needs_full_rows(running->job().search.next()) != full_rows) continue;
    parts.emplace_back(running.get(), rows.size());
    running->take_rows(rows);
    k = std::max<int64_t>(k, running->job().search.next().k);
  }
  if (parts.empty()) return;
  if (full_rows && !session_.has_logits()) {
    for (auto& [running, first] : parts) {
      running->job().error = without_logits(session_, running->job().search.next());
    }
    return;
  }
  StepResult result;
  session_.step(rows, full_rows ? Wanted::logits : Wanted::candidates, k, result);
  for (auto& [running, first] : parts) {
    try {
      running->give_scores(result, first);
      running->advance_known();
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::User) throw;
      running->job().error = error.what();
    }
  }
}

}  // namespace

void run_jobs(Session& session, std::vector<Job>& jobs, const BatchOptions& options) {
  Batch(session, jobs, options).run();
}

}  // namespace ng
