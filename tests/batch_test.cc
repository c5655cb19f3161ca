// Is a sentence's result the same bytes, whatever runs with it, before it and on how many threads?
#include "translate/batch.h"

#include <gtest/gtest.h>

#include "backends/cpu/cpu.h"
#include "tiny_phases.h"

namespace ng {
namespace {

using test::random_job;
using test::result_of;
using test::tiny;
using test::TinyPhases;

// Random jobs, each alone on one thread, then `compositions` random batches for each of 1 to 8
// threads.
void expect_results_of_their_own(const TinyPhases& phases, int compositions) {
  std::mt19937_64 random(11);
  std::vector<Job> jobs;
  std::vector<std::string> alone;
  for (int i = 0; i < 60; ++i) jobs.push_back(random_job(random));
  for (const Job& job : jobs) {
    const std::unique_ptr<Device> device = open_cpu({1});
    Session session(phases.phases(), *device);
    std::vector<Job> one = {job};
    run_jobs(session, one, {});
    alone.push_back(result_of(one[0]));
  }
  for (int threads = 1; threads <= 8; ++threads) {
    const std::unique_ptr<Device> device = open_cpu({threads});
    Session session(phases.phases(), *device);  // the same for many batches
    for (int composition = 0; composition < compositions; ++composition) {
      std::vector<size_t> chosen;
      std::vector<Job> batch;
      for (size_t n = 1 + random() % 12; n > 0; --n) {
        chosen.push_back(random() % jobs.size());  // duplicates too
        batch.push_back(jobs[chosen.back()]);
      }
      run_jobs(session, batch, {static_cast<int>(random() % 5)});
      for (size_t i = 0; i < batch.size(); ++i) {
        ASSERT_EQ(result_of(batch[i]), alone[chosen[i]])
            << threads << " threads, job " << chosen[i];
      }
    }
  }
}

TEST(Batch, AResultDoesNotDependOnWhatRunsWithIt) { expect_results_of_their_own(tiny(), 25); }

TEST(Batch, AResultOfBf16WeightsDoesNotDependOnWhatRunsWithItEither) {
  expect_results_of_their_own(TinyPhases(DType::bf16), 6);
}

TEST(Batch, AnErrorOfOneJobLeavesTheOthersTheirResults) {
  const std::unique_ptr<Device> device = open_cpu({1});
  Session session(tiny().phases(), *device);
  GenerationOptions few;
  few.num_beams = 4;
  few.max_length = 6;
  for (int32_t id = 0; id < 1109; ++id) few.suppress_tokens.push_back(id);
  std::mt19937_64 random(3);
  std::vector<Job> jobs = {random_job(random), {{4, 5}, {}, BeamSearch(few, {2}, 1111), ""}};
  run_jobs(session, jobs, {});
  EXPECT_EQ(jobs[0].error, "");
  EXPECT_NE(jobs[1].error.find("fewer than the 4 beams"), std::string::npos) << jobs[1].error;
}

TEST(Batch, AJobWhoseForcedIdsLeaveTooFewSequencesIsRefusedAndTheOthersRun) {
  const std::unique_ptr<Device> device = open_cpu({1});
  Session session(tiny().phases(), *device);
  GenerationOptions forced;
  forced.num_beams = forced.num_return_sequences = 2;
  forced.max_length = 2;
  forced.forced_bos_token_id = 7;
  std::mt19937_64 random(3);
  std::vector<Job> jobs = {random_job(random), {{4, 5}, {}, BeamSearch(forced, {2}, 1111), ""}};
  run_jobs(session, jobs, {});
  EXPECT_EQ(jobs[0].error, "");
  EXPECT_EQ(jobs[1].error, "num_return_sequences is 2, but only 1 sequences could be made");
}

TEST(Batch, AJobThatNeedsMoreMemoryThanThereIsIsRefusedAndTheOthersRun) {
  const std::unique_ptr<Device> device = open_cpu({1});
  Session session(tiny().phases(), *device);
  GenerationOptions greedy;
  greedy.max_length = 1'000'000'000;  // × 64 beams × 576 bytes: petabytes
  greedy.num_beams = 64;
  std::mt19937_64 random(3);
  for (const int sentences : {0, 1, 3}) {
    std::vector<Job> jobs = {
        random_job(random), {{4, 5, 6}, {}, BeamSearch(greedy, {2}, 1111), ""}, random_job(random)};
    run_jobs(session, jobs, {sentences});
    EXPECT_EQ(jobs[0].error + jobs[2].error, "");
    EXPECT_NE(jobs[1].error.find("MB of memory are available: lower num_beams or max_length"),
              std::string::npos)
        << jobs[1].error;
  }
}

TEST(RowRuns, GivesRowsThatNobodyHasAndTakesThemBack) {
  std::mt19937_64 random(5);
  RowRuns runs;
  std::vector<bool> held(4096);
  std::vector<std::pair<int32_t, int32_t>> taken;
  for (int step = 0; step < 3000; ++step) {
    if (taken.empty() || random() % 2 == 0) {
      const auto length = static_cast<int32_t>(1 + random() % 9);
      const int32_t first = runs.take(length);
      ASSERT_LE(first + length, runs.size());
      for (int32_t row = first; row < first + length; ++row) {
        ASSERT_FALSE(held[static_cast<size_t>(row)]);
        held[static_cast<size_t>(row)] = true;
      }
      taken.emplace_back(first, length);
    } else {
      const size_t at = random() % taken.size();
      const auto [first, length] = taken[at];
      for (int32_t row = first; row < first + length; ++row) held[static_cast<size_t>(row)] = false;
      runs.give(first, length);
      taken.erase(taken.begin() + static_cast<long>(at));
    }
    if (taken.size() > 150) {
      for (const auto& [first, length] : taken) {
        for (int32_t row = first; row < first + length; ++row)
          held[static_cast<size_t>(row)] = false;
        runs.give(first, length);
      }
      taken.clear();
    }
  }
  for (const auto& [first, length] : taken) runs.give(first, length);
  EXPECT_EQ(runs.take(static_cast<int32_t>(runs.size())), 0);  // all one run again
}

}  // namespace
}  // namespace ng
