#include "base/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace ng {
namespace {

// The value in bytes of a "Name:  123 kB" line of a /proc file; 0 when there is none.
uint64_t proc_value(const char* file, const std::string& wanted) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(wanted + ":")) return std::stoull(line.substr(wanted.size() + 1)) * 1024;
  }
  return 0;
}

uint64_t number_in(const char* file) {
  std::ifstream in(file);
  uint64_t value = 0;
  return in >> value ? value : std::numeric_limits<uint64_t>::max();
}

uint64_t left_below(uint64_t limit, uint64_t used) {
  constexpr uint64_t kNoLimit = uint64_t{1} << 60;
  if (limit >= kNoLimit || used >= kNoLimit) return std::numeric_limits<uint64_t>::max();
  return limit > used ? limit - used : 0;
}

}  // namespace

uint64_t available_memory() {
  const uint64_t system = proc_value("/proc/meminfo", "MemAvailable");
  const uint64_t v2 = left_below(number_in("/sys/fs/cgroup/memory.max"),
                                 number_in("/sys/fs/cgroup/memory.current"));
  const uint64_t v1 = left_below(number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
                                 number_in("/sys/fs/cgroup/memory/memory.usage_in_bytes"));
  return std::min({system, v1, v2});
}

uint64_t peak_resident_bytes() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

uint64_t anonymous_bytes() { return proc_value("/proc/self/status", "RssAnon"); }

}  // namespace ng
