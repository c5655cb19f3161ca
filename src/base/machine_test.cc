// Is memory counted below the limits of every cgroup that holds the process?
#include "base/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace ng {
namespace {

constexpr uint64_t kMega = uint64_t{1} << 20;

// A root directory with 8 GB of available memory.
class Machine : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "neuroglot_machine_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    put("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:    8388608 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  // A group of version 2; `limit` may be "max".
  void put_group(const std::string& group, const std::string& limit, uint64_t used,
                 uint64_t inactive) const {
    const std::string folder = "sys/fs/cgroup" + group;
    put(folder + "/memory.max", limit + "\n");
    put(folder + "/memory.current", std::to_string(used) + "\n");
    put(folder + "/memory.stat",
        "anon 1\ninactive_file " + std::to_string(inactive) + "\nactive_file 7\n");
  }
  uint64_t megabytes() const { return available_memory(root_) / kMega; }
  Path root_;
};

std::string mega(uint64_t count) { return std::to_string(count * kMega); }

TEST_F(Machine, WithoutGroupsTheSystemDecides) { EXPECT_EQ(megabytes(), 8192U); }

TEST_F(Machine, TheLimitOfItsOwnGroupCounts) {
  put("proc/self/cgroup", "0::/user.slice/job\n");
  put_group("/user.slice/job", mega(1000), 300 * kMega, 0);
  EXPECT_EQ(megabytes(), 700U);
  put_group("/user.slice/other", mega(10), 9 * kMega, 0);
  EXPECT_EQ(megabytes(), 700U);
}

TEST_F(Machine, SoDoTheLimitsOfTheGroupsAboveIt) {
  put("proc/self/cgroup", "1:name=systemd:/x\n0::/a/b/c\n");
  put_group("/a/b/c", "max", 100 * kMega, 0);
  put_group("/a/b", mega(1000), 100 * kMega, 0);
  EXPECT_EQ(megabytes(), 900U);
  put_group("/a", mega(500), 450 * kMega, 0);
  EXPECT_EQ(megabytes(), 50U);
  put_group("", mega(100), 80 * kMega, 0);  // a container sees its own group as the root
  EXPECT_EQ(megabytes(), 20U);
  put_group("", mega(100), 180 * kMega, 0);
  EXPECT_EQ(megabytes(), 0U);
}

TEST_F(Machine, FilePagesThatNobodyUsesCanBeHad) {
  put("proc/self/cgroup", "0::/job\n");
  put_group("/job", mega(1000), 900 * kMega, 600 * kMega);
  EXPECT_EQ(megabytes(), 700U);
  put_group("/job", mega(1000), 100 * kMega, 600 * kMega);
  EXPECT_EQ(megabytes(), 1000U);
}

TEST_F(Machine, Version1HasItsOwnNames) {
  put("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/1\n");
  const std::string group = "sys/fs/cgroup/memory/docker/1/";
  put(group + "memory.limit_in_bytes", mega(400));
  put(group + "memory.usage_in_bytes", mega(300));
  put(group + "memory.stat", "inactive_file 5\ntotal_inactive_file " + mega(50) + "\n");
  EXPECT_EQ(megabytes(), 150U);
  put(group + "memory.limit_in_bytes", "9223372036854771712");  // none
  EXPECT_EQ(megabytes(), 8192U);
}

TEST_F(Machine, DamagedFilesAreNoLimits) {
  put("proc/self/cgroup", "nonsense\n0::/../../job\n::\n:\n");
  put("sys/fs/cgroup/memory.max", "many");
  put("sys/fs/cgroup/memory.current", "");
  EXPECT_EQ(megabytes(), 8192U);
}

}  // namespace
}  // namespace ng
