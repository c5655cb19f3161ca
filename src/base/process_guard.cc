#include "base/process_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace ng {
namespace {

constexpr int kLink = 3;

void report(const GuardReport& report) {
  const ssize_t ignored = ::write(kLink, &report, sizeof report);
  static_cast<void>(ignored);  // nobody is there: nobody wants to know
}

// When memory is short, the kernel ends the program and what it starts, not us or the guard.
void prefer_for_out_of_memory() {
  const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t ignored = ::write(fd, "500", 3);
  static_cast<void>(ignored);
  ::close(fd);
}

[[noreturn]] void start(const GuardPlan& plan, pid_t guard) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // the guard has one thread: its end is the process's end
  if (::getppid() != guard) ::_exit(127);
  ::setpgid(0, 0);
  prefer_for_out_of_memory();
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (plan.directory == nullptr || ::chdir(plan.directory) == 0) {
    ::execve(plan.argv[0], plan.argv, plan.environment);
  }
  GuardReport failure;
  failure.error = errno;
  report(failure);
  ::_exit(127);
}

// Kills our children, which all orphans below us become (PR_SET_CHILD_SUBREAPER).
void kill_children() {
  char text[4096];
  const int fd = ::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? 0 : ::read(fd, text, sizeof text - 1);
  if (fd >= 0) ::close(fd);
  pid_t child = 0;
  for (ssize_t i = 0; i < size; ++i) {
    if (text[i] >= '0' && text[i] <= '9') {
      child = child * 10 + (text[i] - '0');
    } else {
      if (child > 1) ::kill(child, SIGKILL);
      child = 0;
    }
  }
}

// Nothing below us is left, at most 10 s later (a process may hang in the kernel).
void end_all(pid_t child, GuardReport& result) {
  ::kill(-child, SIGKILL);  // not reaped yet: the number is still its own
  const timespec pause = {0, 5'000'000};
  for (int attempt = 0; attempt < 2000; ++attempt) {
    kill_children();
    int status = 0;
    pid_t ended = 0;
    while ((ended = ::waitpid(-1, &status, WNOHANG)) > 0) {
      if (ended == child) result.status = status;
    }
    if (ended < 0) return;
    ::nanosleep(&pause, nullptr);
  }
}

// Has the child ended? It stays to be reaped; orphans of its are reaped.
bool has_ended(pid_t child) {
  while (true) {
    siginfo_t info = {};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return true;
    if (info.si_pid == 0) return false;
    if (info.si_pid == child) return true;
    ::waitpid(info.si_pid, nullptr, 0);
  }
}

void wait_for_end(pid_t child, int signals) {
  pollfd events[] = {{kLink, POLLIN, 0}, {signals, POLLIN, 0}};
  while (!has_ended(child)) {
    if (::poll(events, 2, -1) < 0 && errno != EINTR) return;
    signalfd_siginfo info;
    if (events[1].revents != 0 && ::read(signals, &info, sizeof info) < 0) return;
    char byte = 0;
    if (events[0].revents == 0) continue;
    if (::read(kLink, &byte, 1) != 1) return;
    ::kill(-child, SIGTERM);
  }
}

}  // namespace

void guard_process(const GuardPlan& plan) {
  ::setsid();  // what a terminal sends to us does not reach the guard
  ::dup3(plan.link, kLink, O_CLOEXEC);
  ::dup2(plan.output, STDOUT_FILENO);
  ::dup2(plan.output, STDERR_FILENO);
  ::closefrom(kLink + 1);  // other guards' links among them, and our files' locks
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &standard, nullptr);  // ignored, children would not wait to be reaped
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  const int signals = ::signalfd(-1, &chld, SFD_CLOEXEC);

  GuardReport result;
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) start(plan, self);
  if (child < 0 || signals < 0) {
    result.error = errno;
  } else {
    ::setpgid(child, child);
    wait_for_end(child, signals);
  }
  if (child > 0) end_all(child, result);
  report(result);
  ::_exit(0);
}

}  // namespace ng
