// When does the emulated runtime fail on purpose?
#include <chrono>
#include <cstdlib>
#include <thread>

#include "emulated/nrt_objects.h"

namespace ng::emulated {
namespace {

// One "FUNCTION@N=STATUS", "FUNCTION@N+=STATUS" (from there on) or "FUNCTION@N=Tms" (a wait).
struct Fault {
  std::string function;
  uint64_t first = 0;
  bool on = false;  // and all later calls
  int64_t value = 0;
  bool waits = false;
};

std::optional<Fault> read_fault(const std::string& text) {
  const size_t at = text.find('@'), is = text.find('=');
  if (at == text.npos || is == text.npos || at > is) return std::nullopt;
  Fault fault;
  fault.function = text.substr(0, at);
  fault.first = std::strtoull(text.c_str() + at + 1, nullptr, 10);
  fault.on = text[is - 1] == '+';
  fault.value = std::strtoll(text.c_str() + is + 1, nullptr, 10);
  fault.waits = text.ends_with("ms");
  return fault;
}

}  // namespace

std::optional<nrt::Status> injected(const std::string& function, uint64_t count) {
  const char* set = std::getenv("EMULATED_NRT");
  const std::string all = set == nullptr ? "" : set;
  for (size_t at = 0; at < all.size();) {
    const std::string one = all.substr(at, all.find(',', at) - at);
    at += one.size() + 1;
    const auto fault = read_fault(one);
    if (!fault || fault->function != function) continue;
    if (fault->on ? count < fault->first : count != fault->first) continue;
    if (!fault->waits) return static_cast<nrt::Status>(fault->value);
    std::this_thread::sleep_for(std::chrono::milliseconds(fault->value));
  }
  return std::nullopt;
}

uint64_t memory_limit() {
  const char* set = std::getenv("EMULATED_NRT_MEMORY");
  return set == nullptr ? uint64_t{16} << 30 : std::strtoull(set, nullptr, 10);
}

int64_t visible_cores() {
  const char* set = std::getenv("EMULATED_NRT_CORES");
  return set == nullptr ? 1 : std::strtoll(set, nullptr, 10);
}

}  // namespace ng::emulated
