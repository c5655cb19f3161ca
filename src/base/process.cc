#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/process_guard.h"

namespace ng {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

[[noreturn]] void cannot_start(const Command& command, int error) {
  throw Error(Error::Kind::Device,
              fmt::format("{}: cannot be started: {}", command.argv.at(0), std::strerror(error)));
}

// Two descriptors of 4 or more that close themselves.
struct Pair {
  int ours = -1, theirs = -1;

  Pair(const Command& command, bool is_socket) {
    int made[2];
    const int result = is_socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made)
                                 : ::pipe2(made, O_CLOEXEC);
    if (result != 0) cannot_start(command, errno);
    ours = ::fcntl(made[0], F_DUPFD_CLOEXEC, 4);
    theirs = ::fcntl(made[1], F_DUPFD_CLOEXEC, 4);
    const int error = errno;
    ::close(made[0]);
    ::close(made[1]);
    if (ours >= 0 && theirs >= 0) return;
    close_ours();
    close_theirs();
    cannot_start(command, error);
  }
  ~Pair() {
    close_ours();
    close_theirs();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  void close_ours() { close(ours); }
  void close_theirs() { close(theirs); }

 private:
  static void close(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

std::vector<std::string> joined_environment(const Command& command) {
  std::vector<std::string> result;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!command.environment.contains(text.substr(0, text.find('=')))) result.push_back(text);
  }
  for (const auto& [name, value] : command.environment) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// A running child, seen from outside. The end of the object is the end of the child.
class Child {
 public:
  explicit Child(const Command& command)
      : command_(command), link_(command, true), output_(command, false) {
    start();
  }

  ~Child() {
    link_.close_ours();
    while (guard_ > 0 && ::waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) continue;
  }

  Ended wait() {
    const auto start = Clock::now();
    std::optional<GuardReport> report;
    while (!report) {
      pollfd events[] = {{link_.ours, POLLIN, 0}, {output_.ours, POLLIN, 0}};
      ::poll(events, 2, kTick);
      if (events[1].revents != 0) read_output();
      if (events[0].revents != 0) report = read_report();
      ended_.timed_out |=
          !ending_ && command_.timeout > Milliseconds(0) && Clock::now() - start > command_.timeout;
      ended_.stopped |= !ending_ && command_.stop.stop_requested();
      if (ended_.timed_out || ended_.stopped) end();
    }
    while (output_.ours >= 0 && read_output()) continue;
    if (report->error != 0) cannot_start(command_, report->error);
    if (WIFSIGNALED(report->status)) ended_.signal = WTERMSIG(report->status);
    if (WIFEXITED(report->status)) ended_.exit_code = WEXITSTATUS(report->status);
    trim(kOutputBytes);
    return std::move(ended_);
  }

 private:
  static constexpr int kTick = 50;  // milliseconds

  // Signals are blocked around fork(): the guard never runs a handler of ours.
  void start() {
    std::vector<std::string> argv = command_.argv, environment = joined_environment(command_);
    const std::vector<char*> words = pointers(argv), variables = pointers(environment);
    const std::string directory = command_.directory.string();
    const GuardPlan plan = {words.data(), variables.data(),
                            directory.empty() ? nullptr : directory.c_str(), link_.theirs,
                            output_.theirs};
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    guard_ = ::fork();
    const int error = errno;
    if (guard_ == 0) guard_process(plan);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (guard_ < 0) cannot_start(command_, error);
    link_.close_theirs();
    output_.close_theirs();
    ::fcntl(output_.ours, F_SETFL, O_NONBLOCK);
  }

  // False: there is nothing more now, or ever (then the descriptor is closed).
  bool read_output() {
    char bytes[16 << 10];
    const ssize_t size = ::read(output_.ours, bytes, sizeof bytes);
    if (size < 0) return errno == EINTR;
    if (size == 0) {
      output_.close_ours();
      return false;
    }
    ended_.output.append(bytes, static_cast<size_t>(size));
    if (ended_.output.size() > 4 * kOutputBytes) trim(kOutputBytes);
    return true;
  }

  void trim(size_t limit) {
    if (ended_.output.size() > limit) ended_.output.erase(0, ended_.output.size() - limit);
  }

  std::optional<GuardReport> read_report() {
    GuardReport report;
    const ssize_t size = ::recv(link_.ours, &report, sizeof report, MSG_WAITALL);
    if (size < 0 && errno == EINTR) return std::nullopt;
    if (size == sizeof report) return report;
    report = {};
    report.status = SIGKILL;  // the guard was killed, and the child with it
    return report;
  }

  void end() {
    if (!ending_) {
      ending_ = Clock::now();
      ::send(link_.ours, "T", 1, MSG_NOSIGNAL);
    } else if (!killed_ && Clock::now() - *ending_ > command_.grace) {
      killed_ = true;
      ::shutdown(link_.ours, SHUT_WR);
    }
  }

  const Command& command_;
  Pair link_, output_;
  pid_t guard_ = -1;
  std::optional<Clock::time_point> ending_;
  bool killed_ = false;
  Ended ended_;
};

}  // namespace

Ended run_process(const Command& command) {
  NG_CHECK(!command.argv.empty(), "a command without a program");
  return Child(command).wait();
}

Path find_program(const std::string& name) {
  const char* value = std::getenv("PATH");
  std::string_view rest = value == nullptr ? "" : value;
  while (!rest.empty()) {
    const std::string_view directory = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(directory.size() + 1, rest.size()));
    const Path path = Path(directory) / name;
    std::error_code ignored;
    const bool is_file = path.is_absolute() && std::filesystem::is_regular_file(path, ignored);
    if (is_file && ::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

}  // namespace ng
