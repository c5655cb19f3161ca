// A loop runs every index once, whatever the number of threads and CPUs.
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace ng {
namespace {

TEST(ThreadPool, CallsEveryIndexOnce) {
  for (const int threads : {0, 1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), std::max(threads, 1));
    for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{7}, size_t{1000}}) {
      std::vector<std::atomic<int>> calls(count);
      pool.run(count, [&](size_t i) { ++calls.at(i); });
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(calls[i], 1) << threads << " " << count;
    }
  }
}

// Not atomic on purpose: the thread sanitizer sees whether a loop ends before the next begins.
TEST(ThreadPool, ALoopSeesAllThatTheLastOneWrote) {
  for (const int threads : {2, 8}) {
    ThreadPool pool(threads);
    std::vector<int> values(64, 0);
    std::vector<int> next(64, 0);
    const int loops = 2000;
    for (int loop = 0; loop < loops; ++loop) {
      const size_t count = 2 + static_cast<size_t>(loop) % 63;
      pool.run(count, [&](size_t i) { next[i] = values[(i + 1) % count] + 1; });
      for (size_t i = 0; i < 64; ++i) values[i] = loop + 1;
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(next[i], loop + 1);
    }
  }
}

TEST(ThreadPool, HelpersTakeIndicesOfALongLoop) {
  ThreadPool pool(4);
  std::set<std::thread::id> seen;
  std::mutex mutex;
  pool.run(8, [&](size_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(seen.size(), 4U);
}

TEST(ThreadPool, HelpersWakeAfterALongPause) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::atomic<int> calls{0};
    pool.run(100, [&](size_t) { ++calls; });
    EXPECT_EQ(calls, 100);
  }
}

TEST(ThreadPool, EndsWhileHelpersSleepOrSpin) {
  for (int round = 0; round < 50; ++round) {
    ThreadPool pool(8);
    if (round % 2 == 0) pool.run(3, [](size_t) {});
  }
}

// Loops must not wait for threads that have no CPU: a decode step runs hundreds of them.
TEST(ThreadPool, EightThreadsOnTwoCpusCostLittle) {
  ThreadPool pool(8);
  const auto start = std::chrono::steady_clock::now();
  for (int loop = 0; loop < 2000; ++loop) pool.run(8, [](size_t) {});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count() / 2000, 1e-3);  // waiting for all helpers took longer than this
}

// A tree of the files that cgroup_threads reads.
class Cgroup : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "neuroglot_cgroup_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  Path root_;
};

TEST_F(Cgroup, HasNoQuotaWithoutFiles) { EXPECT_EQ(cgroup_threads(root_), 0); }

TEST_F(Cgroup, ReadsVersion2OfTheProcessAndItsAncestors) {
  put("proc/self/cgroup", "0::/system.slice/ng.service\n");
  put("sys/fs/cgroup/system.slice/ng.service/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_threads(root_), 0);
  put("sys/fs/cgroup/system.slice/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_threads(root_), 3);  // 2.5, rounded up
  put("sys/fs/cgroup/system.slice/ng.service/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_threads(root_), 1);
}

TEST_F(Cgroup, ReadsTheRootOfTheMountInAContainer) {
  put("proc/self/cgroup", "0::/../../host/name\n");
  put("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(cgroup_threads(root_), 2);
}

TEST_F(Cgroup, ReadsVersion1) {
  put("proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/a/b\n1:cpuset:/\n");
  put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_threads(root_), 0);
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000\n");
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_threads(root_), 4);
}

TEST_F(Cgroup, IgnoresWhatItCannotRead) {
  put("proc/self/cgroup", "nonsense\n0::/x\n");
  put("sys/fs/cgroup/x/cpu.max", "0 0\n");
  put("sys/fs/cgroup/cpu.max", "99999999999999999999 1\n");
  EXPECT_EQ(cgroup_threads(root_), 0);
}

TEST(AvailableThreads, IsAtLeastOneAndAtMostTheCpus) {
  EXPECT_GE(available_threads(), 1);
  EXPECT_LE(available_threads(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace ng
