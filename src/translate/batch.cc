#include "translate/batch.h"

#include <algorithm>
#include <mutex>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "base/machine.h"
#include "translate/running.h"

namespace ng {
namespace {

constexpr int64_t kRowsInFlight = 128;   // without a given number of sentences
constexpr int64_t kEncodeTokens = 4096;  // of one encode, unless one source is longer

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

// The jobs that no session has yet, longest source first.
struct Queue {
  // Those whose source has from `least` to `most` ids.
  explicit Queue(std::vector<Job>& all, size_t least = 0, size_t most = SIZE_MAX) {
    for (Job& job : all) {
      const size_t ids = job.source.size();
      if (ids >= least && ids <= most) waiting.push_back(&job);
    }
    std::stable_sort(waiting.begin(), waiting.end(), [](const Job* a, const Job* b) {
      return a->source.size() > b->source.size();
    });
    std::reverse(waiting.begin(), waiting.end());
  }
  std::mutex mutex;
  std::vector<Job*> waiting;  // the next one last
  size_t sessions = 1;        // that take from it
};

class Batch {
 public:
  Batch(Session& session, Queue& queue, const BatchOptions& options)
      : session_(session), queue_(queue), options_(options) {}
  void run() {
    while (admit() || !running_.empty()) {
      prefill();
      choose(false);
      choose(true);
      drop_done();
    }
  }
  // To the jobs that are under way.
  void fail(const std::string& reason) {
    drop_done();
    for (Job* job : started_) job->error = reason;
    for (const auto& running : running_) running->job().error = reason;
  }

 private:
  bool has_room(const Job& job, size_t in_flight, int64_t rows) const;
  std::vector<Job*> take();
  bool admit();
  void prefill();
  bool needs_full_rows(const StepNeeds& needs) const;
  void choose(bool full_rows);
  void drop_done() {
    std::erase_if(running_, [](const auto& running) {
      Job& job = running->job();
      if (running->done() && job.error.empty()) job.error = missing_results(job.search);
      return running->done() || !job.error.empty();
    });
  }

  Session& session_;
  Queue& queue_;
  BatchOptions options_;
  std::vector<Job*> started_;  // not running yet
  std::vector<std::unique_ptr<Running>> running_;
};

// Why the modules of a static target cannot run the job, "" if they can.
std::string beyond_sizes(const StaticSizes& sizes, const Job& job) {
  if (sizes.slots == 0) return "";
  const std::tuple<const char*, int64_t, int64_t, const char*> rows[] = {
      {"{} source ids", std::ssize(job.source), sizes.source, "source-lengths"},
      {"max_length {}", job.search.max_length(), sizes.target, "target-length"},
      {"num_beams {}", job.search.beams(), sizes.beams, "beams"}};
  for (const auto& [asked, value, most, flag] : rows) {
    if (value <= most) continue;
    return fmt::format(
        "{}, the bundle's modules take {}: ask for less, or compile the checkpoint with larger "
        "--{}",
        fmt::format(fmt::runtime(asked), value), most, flag);
  }
  return "";
}

// Why the modules of a static target that give no whole rows cannot run the search's step.
std::string without_logits(const Session& session, const BeamSearch& search) {
  const GenerationOptions& asked = search.options();
  std::vector<const char*> edits;
  if (asked.repetition_penalty != 1) edits.push_back("repetition_penalty");
  if (asked.no_repeat_ngram_size > 0) edits.push_back("no_repeat_ngram_size");
  if (!asked.bad_words_ids.empty()) edits.push_back("bad_words_ids");
  if (!asked.suppress_tokens.empty()) edits.push_back("suppress_tokens");
  if (asked.eos_token_id.size() > 1) edits.push_back("eos_token_id");
  const int64_t given = session.sizes().candidates;
  const bool all = search.next().full_row;
  return fmt::format(
      "{}: a step needs the {} {} ids, modules give the best{}: compile with --with-logits",
      fmt::join(edits, ", "), all ? "scores of all" : "best",
      all ? session.vocabulary() : search.next().k, given > 0 ? fmt::format(" {}", given) : "");
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

// Jobs for which there is room, at most this session's share.
std::vector<Job*> Batch::take() {
  std::vector<Job*> fresh;
  int64_t tokens = 0;
  int64_t rows = 0;
  uint64_t reserved = 0;
  for (const auto& running : running_) {
    rows += running->job().search.beams();
    reserved += needed_bytes(session_, running->job());
  }
  const std::lock_guard hold(queue_.mutex);
  std::vector<Job*>& waiting = queue_.waiting;
  const size_t share = (waiting.size() + queue_.sessions - 1) / queue_.sessions;
  for (; !waiting.empty() && fresh.size() < share; waiting.pop_back()) {
    Job& job = *waiting.back();
    job.error = beyond_sizes(session_.sizes(), job);
    if (!job.error.empty()) continue;
    const size_t in_flight = running_.size() + fresh.size();
    if (!has_room(job, in_flight, rows)) break;
    const uint64_t needed = needed_bytes(session_, job), available = available_memory();
    if (reserved + needed > available) {
      if (in_flight > 0) break;  // later, alone
      job.error = fmt::format(
          "needs up to {} MB of caches, {} MB of memory are available: lower "
          "num_beams or max_length",
          needed >> 20, available >> 20);
      continue;
    }
    if (!fresh.empty() && tokens + static_cast<int64_t>(job.source.size()) > kEncodeTokens) break;
    reserved += needed;
    rows += job.search.beams();
    tokens += static_cast<int64_t>(job.source.size());
    fresh.push_back(&job);
  }
  return fresh;
}

// Whether there was one.
bool Batch::admit() {
  started_ = take();
  if (started_.empty()) return false;
  std::vector<Source> sources;
  for (const Job* job : started_) sources.push_back({job->source, job->mask});
  const std::vector<Memory> memories = session_.encode(sources);
  for (size_t i = 0; i < started_.size(); ++i) {
    running_.push_back(std::make_unique<Running>(session_, *started_[i], memories[i]));
  }
  for (auto it = running_.end() - std::ssize(started_); it != running_.end(); ++it) {
    (*it)->advance_known();
  }
  started_.clear();
  return true;
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
      running->job().error = without_logits(session_, running->job().search);
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

// Until no job waits or the device is lost: a fault ends no more than the jobs that are under way.
void serve(Session& session, Queue& queue, const BatchOptions& options, std::string& fault,
           std::string& lost) {
  while (lost.empty()) {
    Batch batch(session, queue, options);
    try {
      return batch.run();
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::Device) throw;
      (dynamic_cast<const Fault*>(&error) != nullptr ? fault : lost) = error.what();
      batch.fail(error.what());
    }
  }
}

}  // namespace

void run_jobs(Session& session, std::vector<Job>& jobs, const BatchOptions& options) {
  Queue queue(jobs);
  Batch(session, queue, options).run();
}

Session& Replicas::first() {
  if (!sessions_[0]) sessions_[0] = open_(0);
  return *sessions_[0];
}

// Those that are there, as many as have something to do.
std::vector<size_t> Replicas::usable(size_t jobs) {
  const auto at_once = std::max<size_t>(1, static_cast<size_t>(first().sizes().slots));
  std::vector<size_t> found;
  for (size_t i = 0; i < sessions_.size() && found.size() * at_once < jobs; ++i) {
    if (!lost_[i].empty()) continue;
    try {
      if (!sessions_[i]) sessions_[i] = open_(i);
      found.push_back(i);
    } catch (const Error& error) {  // the others go on
      if (error.kind() != Error::Kind::Device) throw;
      lost_[i] = error.what();
    }
  }
  return found;
}

void Replicas::run(std::vector<Job>& jobs, const BatchOptions& options) {
  const auto longest = static_cast<size_t>(open_long_ ? first().sizes().source : 0);
  if (Queue queue(jobs, longest + 1); longest > 0 && !queue.waiting.empty()) {
    if (!long_) long_ = open_long_();
    Batch(*long_, queue, options).run();
  }
  Queue queue(jobs, 0, longest > 0 ? longest : SIZE_MAX);
  for (;;) {  // again where all that began are lost
    const std::vector<size_t> replicas = usable(queue.waiting.size());
    if (replicas.empty()) break;
    queue.sessions = replicas.size();
    std::vector<std::exception_ptr> failures(replicas.size());  // that are no device's
    const auto work = [&](size_t at) {
      const size_t i = replicas[at];
      try {
        serve(*sessions_[i], queue, options, faults_[i], lost_[i]);
      } catch (...) {
        failures[at] = std::current_exception();
      }
    };
    std::vector<std::thread> threads;
    for (size_t at = 1; at < replicas.size(); ++at) threads.emplace_back(work, at);
    work(0);
    for (std::thread& thread : threads) thread.join();
    for (const auto& failure : failures) {
      if (failure) std::rethrow_exception(failure);
    }
  }
  for (Job* job : queue.waiting) {
    job->error = fmt::format("every device is lost: {}", fmt::join(lost_, "; "));
  }
}

void Replicas::check_devices() const {
  std::string told;
  for (size_t i = 0; i < lost_.size(); ++i) {
    if (!faults_[i].empty()) told += fmt::format("; core {}: {}", i, faults_[i]);
    if (!lost_[i].empty()) told += fmt::format("; core {} is lost: {}", i, lost_[i]);
  }
  if (!told.empty()) throw Error(Error::Kind::Device, "a device failed: " + told.substr(2));
}

}  // namespace ng
