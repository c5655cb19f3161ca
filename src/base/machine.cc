#include "base/machine.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

namespace ng {
namespace {

constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

// The number behind `wanted` at the start of a line, `none` when there is no such line.
uint64_t number_after(const Path& file, std::string_view wanted, uint64_t none) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(wanted)) continue;
    uint64_t value = 0;
    return std::istringstream(line.substr(wanted.size())) >> value ? value : none;
  }
  return none;
}

// What a hierarchy of cgroups calls its files.
struct Names {
  const char *limit, *usage, *inactive;
};
constexpr Names kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                             "total_inactive_file "};
constexpr Names kVersion2 = {"memory.max", "memory.current", "inactive_file "};

// Below the limit of one group. Cached file pages that nobody used lately go when they are needed.
uint64_t left_in(const Path& group, const Names& names) {
  constexpr uint64_t kNoLimit = uint64_t{1} << 60;
  const uint64_t limit = number_after(group / names.limit, "", kNone);
  const uint64_t used = number_after(group / names.usage, "", kNone);
  if (limit >= kNoLimit || used >= kNoLimit) return kNone;
  const uint64_t held =
      used - std::min(used, number_after(group / "memory.stat", names.inactive, 0));
  return limit > held ? limit - held : 0;
}

// The least of a group and all above it, up to the hierarchy's root: each has a limit of its own.
uint64_t left_in_all(const Path& root, const std::string& group, const Names& names) {
  uint64_t left = left_in(root, names);
  Path at = root;
  for (const Path& part : Path(group).relative_path()) {
    at /= part;
    left = std::min(left, left_in(at, names));
  }
  return left;
}

}  // namespace

uint64_t available_memory(const Path& root) {
  const Path groups = root / "sys/fs/cgroup";
  std::string version1, version2;  // this process's groups; "" is the root
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // 7:cpu,memory:/group or 0::/group
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") version2 = line.substr(second + 1);
    if (controllers.find(",memory,") != std::string::npos) version1 = line.substr(second + 1);
  }
  const uint64_t system = number_after(root / "proc/meminfo", "MemAvailable:", 0) * 1024;
  return std::min({system, left_in_all(groups, version2, kVersion2),
                   left_in_all(groups / "memory", version1, kVersion1)});
}

// Not getrusage's ru_maxrss: a process inherits that from whoever started it.
uint64_t peak_resident_bytes() { return number_after("/proc/self/status", "VmHWM:", 0) * 1024; }
uint64_t anonymous_bytes() { return number_after("/proc/self/status", "RssAnon:", 0) * 1024; }

}  // namespace ng
