// How does a child program run, and how is it ended with all that it has started?
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace ng {

struct Command {
  std::vector<std::string> argv;  // argv[0] is the program's path; no shell reads them
  Path directory;                 // where it runs; empty: where we are
  std::map<std::string, std::string> environment;  // besides ours
  std::chrono::milliseconds timeout{0};            // 0: none
  std::chrono::milliseconds grace{2000};           // from SIGTERM to SIGKILL
  std::stop_token stop;
};

struct Ended {
  int exit_code = -1;  // -1: by a signal
  int signal = 0;
  bool timed_out = false, stopped = false;  // then SIGTERM and SIGKILL were ours
  std::string output;  // standard output and error, the last kOutputBytes of them
};

inline constexpr size_t kOutputBytes = size_t{64} << 10;

// Runs the program to its end; standard input is empty. At the timeout, or when told to stop, its
// process group gets SIGTERM and, after the grace, SIGKILL. Whatever it started is gone when this
// returns, and soon after this process ends in whichever way, SIGKILL too. For any thread.
// It cannot be started: Device.
Ended run_process(const Command& command);

Path find_program(const std::string& name);  // in $PATH's absolute directories; empty: nowhere

// Words as a shell splits them: blanks, '…', "…" and backslashes; nothing is expanded. A quote that
// does not end: User; `what` names the text.
std::vector<std::string> split_words(std::string_view text, std::string_view what);
std::string shell_quoted(std::span<const std::string> argv);  // to be pasted into a shell

std::string last_lines(std::string_view text, size_t count);  // blank lines do not count

}  // namespace ng
