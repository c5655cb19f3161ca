// Which sentences run together? Searches share decode steps; one that ends makes room for the next.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "translate/beam_search.h"
#include "translate/session.h"

namespace ng {

struct Job {
  std::vector<int32_t> source;
  std::vector<uint8_t> mask;  // empty: every id counts
  BeamSearch search;
  std::string error;  // of this job alone: its search has no result
};

struct BatchOptions {
  int sentences = 0;  // most in flight; 0: by the rows that their beams make
};

// Runs every job to its end. Results do not depend on what runs together (docs/numerics.md): jobs
// are taken longest source first. What only concerns one job (too few ids to choose from, more
// memory than there is) goes to its error; anything else is thrown.
void run_jobs(Session& session, std::vector<Job>& jobs, const BatchOptions& options);

// Sessions of one bundle on devices of their own, opened when there is work for them: more than the
// others take at once.
class Replicas {
 public:
  using Open = std::function<std::unique_ptr<Session>(size_t replica)>;
  Replicas(size_t count, Open open)
      : open_(std::move(open)), sessions_(count), lost_(count), faults_(count) {}
  Session& first();
  // Where sources run that the others' modules do not take; opened with the first of them.
  void set_long(std::function<std::unique_ptr<Session>()> open) { open_long_ = std::move(open); }

  // Each session takes its share of the jobs that nobody has yet, and more whenever it has room. A
  // run that fails fails the jobs that are in it, by their errors; after a Fault its device gets
  // others, after any other Device error none. Where none is left, the jobs that wait fail.
  void run(std::vector<Job>& jobs, const BatchOptions& options);

  // Device, if one failed so far: the last fault of each, and what it was lost by.
  void check_devices() const;

 private:
  std::vector<size_t> usable(size_t jobs);

  Open open_;
  std::function<std::unique_ptr<Session>()> open_long_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::unique_ptr<Session> long_;
  std::vector<std::string> lost_;    // by replica; empty: it is there
  std::vector<std::string> faults_;  // by replica; empty: none
};

}  // namespace ng
