#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace ng {
namespace {

// CPUs that the files of one cgroup allow, or a large number.
double quota_of(const Path& folder) {
  double quota = 0;
  double period = 0;
  std::ifstream v2(folder / "cpu.max");  // "max 100000" without a quota: reading a number fails
  if (v2 >> quota >> period && quota > 0 && period > 0) return quota / period;
  std::ifstream v1(folder / "cpu.cfs_quota_us");
  std::ifstream v1_period(folder / "cpu.cfs_period_us");
  if (v1 >> quota && v1_period >> period && quota > 0 && period > 0) return quota / period;
  return 1e9;
}

bool holds(const std::string& list, const std::string& item) {
  return ("," + list + ",").find("," + item + ",") != std::string::npos;
}

// A spinning thread lets its core's other thread run.
void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// A line of /proc/self/cgroup is id:controllers:path; v2 has no controllers. The quota of every
// ancestor holds too. In a container the path may name a folder that only the host sees: then the
// root of the mount is what counts.
int cgroup_threads(const Path& root) {
  double threads = 1e9;
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !holds(controllers, "cpu")) continue;
    const Path mount = root / "sys/fs/cgroup" / controllers;
    Path folder = Path(line.substr(second + 1)).relative_path();
    for (; !folder.empty(); folder = folder.parent_path()) {
      threads = std::min(threads, quota_of(mount / folder));
    }
    threads = std::min(threads, quota_of(mount));
  }
  return threads < 1e6 ? static_cast<int>(std::ceil(threads)) : 0;
}

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  auto threads = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) threads = CPU_COUNT(&set);
  if (const int quota = cgroup_threads("/"); quota > 0) threads = std::min(threads, quota);
  return std::max(threads, 1);
}

// One loop at a time. `ticket` holds the loop's number and how many of its indices nobody has taken
// yet: to take one is a compare-and-swap, so a helper that wakes late can only take an index of the
// loop that runs now, and the caller waits for the indices in work, not for helpers. Everybody
// spins a little before it sleeps, because the loops of a decode step follow each other within
// microseconds; with more threads than CPUs nobody spins, it would keep the others from running.
struct ThreadPool::Team {
  std::vector<std::thread> helpers;
  int spins = 0;
  std::atomic<uint64_t> ticket{0};      // loop number << 32 | indices not yet taken
  std::atomic<uint32_t> announced{0};   // changes with every loop, and to stop
  std::atomic<uint32_t> unfinished{0};  // indices of the loop that have not returned
  std::atomic<bool> stop{false};
  const std::function<void(size_t)>* body = nullptr;  // valid while an index is taken

  void work() {
    uint64_t now = ticket.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(now) != 0) {
      if (!ticket.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel)) continue;
      (*body)(static_cast<uint32_t>(now) - 1);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
      now = ticket.load(std::memory_order_acquire);
    }
  }

  // Returns when `value` is not `old` any more.
  void wait_while(const std::atomic<uint32_t>& value, uint32_t old) const {
    for (int spin = 0; spin < spins; ++spin) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
    value.wait(old, std::memory_order_acquire);
  }

  void announce() {
    announced.fetch_add(1, std::memory_order_release);
    announced.notify_all();
  }

  void help() {
    while (!stop.load()) {
      const uint32_t seen = announced.load(std::memory_order_acquire);
      if (stop.load()) return;
      work();
      wait_while(announced, seen);
    }
  }
};

ThreadPool::ThreadPool(int threads)
    : team_(std::make_unique<Team>()), threads_(std::max(threads, 1)) {
  team_->spins = threads_ <= available_threads() ? 4000 : 0;
  for (int i = 1; i < threads_; ++i) team_->helpers.emplace_back([this] { team_->help(); });
}

ThreadPool::~ThreadPool() {
  team_->stop.store(true);
  team_->announce();
  for (auto& helper : team_->helpers) helper.join();
}

void ThreadPool::run(size_t count, const std::function<void(size_t)>& body) {
  if (count <= 1 || threads_ == 1) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  NG_CHECK(count <= UINT32_MAX, "a loop of {} indices", count);
  Team& team = *team_;
  team.body = &body;
  team.unfinished.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  const uint64_t loop = (team.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  team.ticket.store(loop << 32 | count, std::memory_order_release);
  team.announce();
  team.work();
  for (uint32_t left = team.unfinished.load(std::memory_order_acquire); left != 0;
       left = team.unfinished.load(std::memory_order_acquire)) {
    team.wait_while(team.unfinished, left);
  }
}

}  // namespace ng
