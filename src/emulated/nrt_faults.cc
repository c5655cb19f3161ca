// When does the emulated runtime fail on purpose?
#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "emulated/nrt_objects.h"

namespace ng::emulated {
namespace {

constexpr std::string_view kFunctions[] = {
    "nrt_init",
    "nrt_get_version",
    "nrt_get_visible_vnc_count",
    "nrt_get_vnc_memory_stats",
    "nrt_load",
    "nrt_load_collectives",
    "nrt_unload",
    "nrt_get_model_tensor_info",
    "nrt_free_model_tensor_info",
    "nrt_tensor_allocate",
    "nrt_tensor_read",
    "nrt_tensor_write",
    "nrt_allocate_tensor_set",
    "nrt_add_tensor_to_tensor_set",
    "nrt_execute",
};

// One "FUNCTION@N=STATUS", "FUNCTION@N+=STATUS" (from there on) or "FUNCTION@N=Tms" (a wait).
struct Fault {
  std::string function;
  uint64_t first = 0;
  bool on = false;  // and all later calls
  int64_t value = 0;
  bool waits = false;
};

// The number that `text` begins with, which it loses.
int64_t take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  check(error == std::errc(), "a number is missing");
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

Fault read_fault(std::string_view text) {
  Fault fault;
  fault.function = text.substr(0, text.find('@'));
  text.remove_prefix(fault.function.size());
  check(std::ranges::count(kFunctions, fault.function) > 0, "no function is called \"{}\"",
        fault.function);
  check(take(text, "@"), "FUNCTION@N=STATUS is needed");
  fault.first = static_cast<uint64_t>(take_number(text));
  fault.on = take(text, "+");
  check(fault.first > 0 && take(text, "="), "FUNCTION@N=STATUS is needed, N from 1 on");
  fault.value = take_number(text);
  fault.waits = take(text, "ms");
  check(text.empty(), "\"{}\" behind it", text);
  return fault;
}

std::vector<Fault> read_faults() {
  const char* set = std::getenv("EMULATED_NRT");
  const std::string all = set == nullptr ? "" : set;
  std::vector<Fault> faults;
  for (size_t at = 0; at < all.size();) {
    const std::string one = all.substr(at, all.find(',', at) - at);
    at += one.size() + 1;
    try {
      faults.push_back(read_fault(one));
    } catch (const Error& error) {
      fail("EMULATED_NRT: \"{}\": {}", one, error.what());
    }
  }
  return faults;
}

}  // namespace

Injected injected(const std::string& function, uint64_t count) {
  Injected found;
  for (const Fault& fault : read_faults()) {
    if (fault.function != function || found.status) continue;
    if (fault.on ? count < fault.first : count != fault.first) continue;
    if (fault.waits) {
      found.wait += std::chrono::milliseconds(fault.value);
    } else {
      found.status = static_cast<nrt::Status>(fault.value);
    }
  }
  return found;
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
