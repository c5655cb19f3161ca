// A fixed team of threads that runs one indexed loop at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/file.h"

namespace ng {

// The smaller of the CPU affinity and the cgroup's quota, at least 1.
int available_threads();

// The CPU quota of this process's cgroup and its ancestors (v1 or v2), rounded up; 0 when there is
// none. `root` holds proc/ and sys/.
int cgroup_threads(const Path& root);

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the caller's thread is one of them
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // Calls body(i) once for every i in [0, count), from any thread of the team, and returns when all
  // are done. `body` must not throw and must not call run() again. Which thread takes which index
  // is unspecified: nothing that is computed may depend on it.
  void run(size_t count, const std::function<void(size_t)>& body);

 private:
  struct Team;
  std::unique_ptr<Team> team_;
  int threads_;
};

}  // namespace ng
