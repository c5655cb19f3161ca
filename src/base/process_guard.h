// Who ends a child's processes when we cannot? A guard: a process between us and the child.
#pragma once

#include <cstdint>

namespace ng {

// What the guard needs, made before fork(): after it, only async-signal-safe calls are allowed.
// Descriptors are 4 or more.
struct GuardPlan {
  char* const* argv;
  char* const* environment;
  const char* directory;  // null: ours
  int link;    // a socket: a byte from us means SIGTERM, its end SIGKILL; GuardReport back
  int output;  // standard output and error
};

struct GuardReport {
  int32_t error = 0;   // errno: the program could not be started
  int32_t status = 0;  // of waitpid
};

// In the new process, with all signals blocked. It starts the program in a group of its own, waits
// for its end or ours, kills every process that is left below, reports and exits.
[[noreturn]] void guard_process(const GuardPlan& plan);

}  // namespace ng
