// What does this machine give the process: memory, and how much of it is used?
#pragma once

#include <cstdint>

namespace ng {

// Bytes that can still be had: the smaller of the system's available memory and what is left below
// the cgroup's limit.
uint64_t available_memory();

uint64_t peak_resident_bytes();  // since the process began
uint64_t anonymous_bytes();      // resident now, without mapped files

}  // namespace ng
