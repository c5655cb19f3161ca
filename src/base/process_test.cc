#include "base/process.h"

#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <thread>

#include "base/refusal_for_test.h"

namespace ng {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

Command shell(const std::string& script) {
  Command command;
  command.argv = {"/bin/sh", "-c", script};
  return command;
}

size_t open_descriptors() {
  size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(file);
    ++count;
  }
  return count;
}

// Processes with `mark` in their command lines, but for `self`.
int processes_with(const std::string& mark) {
  int count = 0;
  std::error_code gone;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    const std::string id = process.path().filename();
    if (id.find_first_not_of("0123456789") != std::string::npos) continue;
    if (std::stoi(id) == ::getpid()) continue;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        std::fopen((process.path() / "cmdline").c_str(), "r"),
        [](std::FILE* f) { return f == nullptr ? 0 : std::fclose(f); });
    char text[4096];
    const size_t size = file ? std::fread(text, 1, sizeof text, file.get()) : 0;
    count += std::string_view(text, size).find(mark) != std::string_view::npos ? 1 : 0;
  }
  return count;
}

// A tree of sleeping processes: a child, one of another session and its orphan. `mark` is a time to
// sleep that nobody else has.
std::string tree(const std::string& mark) {
  return fmt::format(
      "sleep {0} & setsid sh -c 'trap \"\" TERM; sleep {0} & sleep {0}' & "
      "(setsid sleep {0} &) ; echo ready; trap '' TERM; sleep {0}; sleep {0}",
      mark);
}

std::string new_mark() {
  std::random_device random;
  return fmt::format("{}.{}", 1000 + random() % 1000, random());
}

// Waits until no child is left, nor any that came to us when its parent was killed; at most 5 s.
bool soon_without_children() {
  for (int i = 0; i < 500; ++i) {
    pid_t ended = 0;
    while ((ended = ::waitpid(-1, nullptr, WNOHANG)) > 0) continue;
    if (ended < 0) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(Process, GivesOutputAndExitCode) {
  const size_t before = open_descriptors();
  const Ended ended = run_process(shell("echo out; echo err >&2; cat; exit 7"));
  EXPECT_EQ(ended.exit_code, 7);
  EXPECT_EQ(ended.signal, 0);
  EXPECT_EQ(ended.output, "out\nerr\n");
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Process, GivesTheSignal) {
  const Ended ended = run_process(shell("kill -SEGV $$"));
  EXPECT_EQ(ended.exit_code, -1);
  EXPECT_EQ(ended.signal, SIGSEGV);
  EXPECT_FALSE(ended.timed_out);
}

TEST(Process, PassesWordsDirectoryAndEnvironmentAsTheyAre) {
  ::setenv("NG_PROCESS_TEST", "old", 1);
  Command command = shell("printf '%s|' \"$NG_PROCESS_TEST\" \"$PWD\" \"$@\"");
  command.argv.insert(command.argv.end(), {"sh", "a b", "$HOME", "*", ""});
  command.directory = "/usr";
  command.environment["NG_PROCESS_TEST"] = "new value";
  EXPECT_EQ(run_process(command).output, "new value|/usr|a b|$HOME|*||");
  ::unsetenv("NG_PROCESS_TEST");
}

TEST(Process, SaysWhatCannotBeStarted) {
  const size_t before = open_descriptors();
  Command command;
  command.argv = {"/nowhere/neuronx-cc"};
  try {
    run_process(command);
    ADD_FAILURE() << "was started";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Device);
    EXPECT_STREQ(error.what(), "/nowhere/neuronx-cc: cannot be started: No such file or directory");
  }
  command = shell("true");
  command.directory = "/nowhere";
  EXPECT_THROW(run_process(command), Error);
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // no zombie
}

TEST(Process, KeepsTheEndOfALongOutput) {
  const Ended ended = run_process(shell("seq 1 300000; echo end"));
  EXPECT_EQ(ended.output.size(), kOutputBytes);
  EXPECT_THAT(ended.output, testing::EndsWith("\n299999\n300000\nend\n"));
}

TEST(Process, GivesDefaultSignalsAndNoDescriptorOfOurs) {
  ::signal(SIGPIPE, SIG_IGN);
  const int open = ::dup(1);  // without O_CLOEXEC, as a careless library leaves it
  const Ended ended =
      run_process(shell("ls /proc/self/fd | tr '\\n' ' '; grep SigIgn /proc/$$/status"));
  ::close(open);
  ::signal(SIGPIPE, SIG_DFL);
  const std::string before = "0 1 2 3 SigIgn:\t";  // 3: of ls
  ASSERT_THAT(ended.output, testing::StartsWith(before));
  const uint64_t ignored = std::stoull(ended.output.substr(before.size()), nullptr, 16);
  // 32 and 33 are the C library's own, which nobody can set; under make they are ignored.
  EXPECT_EQ(ignored & 0x7fffffff, 0U) << ended.output;
}

TEST(Process, TheKernelWouldEndItBeforeUs) {
  EXPECT_EQ(run_process(shell("cat /proc/self/oom_score_adj")).output, "500\n");
}

TEST(Process, ATimeoutEndsAllThatWasStarted) {
  const std::string mark = new_mark();
  Command command = shell(tree(mark));
  command.timeout = 300ms;
  command.grace = 100ms;
  const auto start = std::chrono::steady_clock::now();
  const Ended ended = run_process(command);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  EXPECT_TRUE(ended.timed_out);
  EXPECT_EQ(ended.signal, SIGKILL);
  EXPECT_EQ(ended.output, "ready\n");
  EXPECT_EQ(processes_with(mark), 0);
}

TEST(Process, SigtermComesFirst) {
  Command command = shell("trap 'echo tidy; exit 3' TERM; while :; do sleep 0.01; done");
  command.timeout = 200ms;
  command.grace = 20s;
  const Ended ended = run_process(command);
  EXPECT_TRUE(ended.timed_out);
  EXPECT_EQ(ended.exit_code, 3);
  EXPECT_THAT(ended.output, HasSubstr("tidy"));
}

TEST(Process, AStopEndsIt) {
  const std::string mark = new_mark();
  std::stop_source source;
  Command command = shell(tree(mark));
  command.grace = 50ms;
  command.stop = source.get_token();
  std::jthread other([&] {
    std::this_thread::sleep_for(200ms);
    source.request_stop();
  });
  EXPECT_TRUE(run_process(command).stopped);
  EXPECT_EQ(processes_with(mark), 0);
}

TEST(Process, WhatItLeavesBehindIsEnded) {
  const std::string mark = new_mark();
  const Ended ended =
      run_process(shell(fmt::format("sleep {0} & setsid sleep {0} & exit 4", mark)));
  EXPECT_EQ(ended.exit_code, 4);
  EXPECT_EQ(processes_with(mark), 0);
}

TEST(Process, AllIsEndedWhenWeAreKilled) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // what is left of the driver's becomes ours
  for (int delay = 0; delay < 12; ++delay) {
    const std::string mark = new_mark();
    const pid_t driver = ::fork();
    if (driver == 0) {
      std::jthread second([&] { run_process(shell(tree(mark))); });
      run_process(shell(tree(mark)));
      ::_exit(0);
    }
    std::this_thread::sleep_for(delay * 15ms);
    ::kill(driver, SIGKILL);
    EXPECT_TRUE(soon_without_children()) << delay;
    EXPECT_EQ(processes_with(mark), 0) << delay;
  }
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST(Process, ThreadsDoNotDisturbEachOther) {
  const size_t before = open_descriptors();
  std::vector<std::jthread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        const Ended ended = run_process(shell(fmt::format("echo {0}; exit {0}", i)));
        good += ended.exit_code == i && ended.output == fmt::format("{}\n", i) ? 1 : 0;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(good, 40);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Process, WordsAreSplitAsAShellSplitsThem) {
  const auto split = [](std::string_view text) { return split_words(text, "--compiler-args"); };
  EXPECT_THAT(split("  -O1 --a='x y' \"b \\\" $c\" d\\ e '' f\\\\ \t"),
              ElementsAre("-O1", "--a=x y", "b \" $c", "d e", "", "f\\"));
  EXPECT_THAT(split(""), ElementsAre());
  EXPECT_THAT(split("'a\\'"), ElementsAre("a\\"));
  EXPECT_THAT(refusal([&] { split("--x='a"); }), HasSubstr("--compiler-args: a ' is not closed"));
  EXPECT_THAT(refusal([&] { split(std::string_view("a\0b", 3)); }), HasSubstr("zero byte"));
}

TEST(Process, QuotedWordsComeBackAsTheyWere) {
  std::mt19937_64 random(7);
  constexpr std::string_view kLetters = "ab '\"\\$*\n-=;|&";
  for (int i = 0; i < 500; ++i) {
    std::vector<std::string> words(1 + random() % 4);
    for (std::string& word : words) {
      for (size_t n = random() % 6; n > 0; --n) word += kLetters[random() % kLetters.size()];
    }
    EXPECT_EQ(split_words(shell_quoted(words), "test"), words) << shell_quoted(words);
  }
  const std::vector<std::string> words = {"a b", "$x", "it's", "\"", "*"};
  EXPECT_EQ(run_process(shell("printf '%s|' " + shell_quoted(words))).output, "a b|$x|it's|\"|*|");
}

TEST(Process, LastLinesSkipBlankOnes) {
  EXPECT_EQ(last_lines("a\nb\n\n  \nc\n", 2), "b\nc");
  EXPECT_EQ(last_lines("a", 2), "a");
  EXPECT_EQ(last_lines("\n", 2), "");
  EXPECT_EQ(last_lines("x\x01\n", 1), "x\\x01");
}

TEST(Process, FindsProgramsInAbsoluteDirectoriesOnly) {
  EXPECT_THAT(find_program("sh").string(), testing::EndsWith("/sh"));
  EXPECT_EQ(find_program("no-such-program"), Path());
  const std::string path = ::getenv("PATH");
  ::setenv("PATH", ":.:bin", 1);
  EXPECT_EQ(find_program("sh"), Path());
  ::setenv("PATH", path.c_str(), 1);
}

}  // namespace
}  // namespace ng
