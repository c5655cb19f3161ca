// What does this machine give the process: memory, and how much of it is used?
#pragma once

#include <cstdint>

#include "base/file.h"

namespace ng {

// Bytes that can still be had: the least of the system's available memory and what is left below
// the limits of this process's cgroup and those above it. `root` is where /proc and /sys are.
uint64_t available_memory(const Path& root = "/");

uint64_t peak_resident_bytes();  // since the process began
uint64_t anonymous_bytes();      // resident now, without mapped files

}  // namespace ng
