// Which sentences run together? Searches share decode steps; one that ends makes room for the next.
#pragma once

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

}  // namespace ng
