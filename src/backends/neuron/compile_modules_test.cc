#include "backends/neuron/compile_modules.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <test_paths.h>
#include <csignal>
#include <set>
#include <thread>

#include "base/process.h"
#include "checkpoint/damage_for_test.h"
#include "emulated/hlo_for_test.h"
#include "emulated/pseudo_neff.h"

namespace ng {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A cache of its own and a compiler: a script, which may count its runs and call the emulated one.
struct Compilation {
  TemporaryDirectory directory;
  Path home = directory.path / "neffs", runs = directory.path / "runs";
  CompileSettings settings;
  Progress quiet{true};

  explicit Compilation(const std::string& script = "") {
    settings.target = &find_neuron_target("inf2");
    settings.cache = home;
    settings.compiler.version = *parse_neuron_version("2.27.5334.0");
    use(script);
  }
  void use(const std::string& script) {
    settings.compiler.program = directory.path / "neuronx-cc";
    put_file(settings.compiler.program,
             fmt::format("#!/bin/sh\necho begin >> {}\n{}\n{} \"$@\"\ncode=$?\necho end >> "
                         "{}\nexit $code\n",
                         runs.string(), script, NG_EMULATED_CC, runs.string()));
    std::filesystem::permissions(settings.compiler.program, std::filesystem::perms::owner_all);
  }
  std::vector<CompiledModule> compile(const std::vector<CompileJob>& jobs) {
    return compile_modules(jobs, settings, quiet);
  }
  std::string failure(const std::vector<CompileJob>& jobs) {
    try {
      compile(jobs);
      ADD_FAILURE() << "ended well";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::Device) << error.what();
      return error.what();
    }
    return "";
  }
  std::string marks() const {
    return std::filesystem::exists(runs) ? read_file(runs, 1 << 20) : "";
  }
  int count(const std::string& mark) const {
    const std::string text = marks();
    int found = 0;
    for (size_t at = 0; (at = text.find(mark, at)) != text.npos; ++at) ++found;
    return found;
  }
  int most_at_once() const {
    int now = 0, most = 0;
    for (const char c : marks()) {
      now += c == 'b' ? 1 : c == 'd' ? -1 : 0;  // "begin", "end"
      most = std::max(most, now);
    }
    return most;
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(home)) {
      names.push_back(file.path().filename());
    }
    return names;
  }
};

CompileJob job(const std::string& name) {
  HloForTest module;
  module.module.set_name(name);
  return {name, module.bytes(), NeuronPhase::decode};
}

std::vector<CompileJob> jobs(int count) {
  std::vector<CompileJob> result;
  for (int i = 0; i < count; ++i) result.push_back(job(fmt::format("decode-b{}", i)));
  return result;
}

std::string hlo_in(const CompiledModule& module) {
  const auto file = MappedFile::open(module.neff);
  return std::string(hlo_of(file->bytes(), "test"));
}

bool soon_no_process_with(const std::string& mark) {
  for (int i = 0; i < 500; ++i) {
    Command command;
    command.argv = {"/bin/sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"};
    if (run_process(command).output.find(mark) == std::string::npos) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(CompileModules, MakesEveryNeffOnce) {
  Compilation compilation;
  std::vector<CompileJob> wanted = jobs(3);
  wanted.push_back(wanted[1]);
  wanted.back().name = "the same again";
  compilation.settings.jobs = 2;
  const auto made = compilation.compile(wanted);
  ASSERT_EQ(made.size(), 4U);
  for (size_t i = 0; i < made.size(); ++i) {
    EXPECT_EQ(made[i].name, wanted[i].name);
    EXPECT_EQ(hlo_in(made[i]), wanted[i].hlo);
    EXPECT_TRUE(is_emulated(made[i].header));
  }
  EXPECT_EQ(made[3].neff, made[1].neff);
  EXPECT_EQ(compilation.count("begin"), 3);
  EXPECT_EQ(compilation.files().size(), 6U);  // entries and their locks
  EXPECT_EQ(read_file(made[0].neff.parent_path() / "command.txt", 1000),
            compilation.settings.compiler.program.string() +
                " compile module.hlo.pb --framework XLA --target inf2 --model-type transformer "
                "--auto-cast none -O2 --enable-saturate-infinity --verbose 35 --output module.neff "
                "--logfile module.log\n");
  EXPECT_EQ(compilation.compile(wanted)[2].neff, made[2].neff);
  EXPECT_EQ(compilation.count("begin"), 3);
}

TEST(CompileModules, WhatDecidesTheNeffDecidesTheEntry) {
  Compilation compilation;
  const std::vector<CompileJob> wanted = {job("a")};
  std::set<Path> entries;
  const auto compile = [&] { entries.insert(compilation.compile(wanted)[0].neff); };
  compile();
  compilation.settings.extra = {"-O3"};
  compile();
  compilation.settings.compiler.version = *parse_neuron_version("2.26.6360.0");
  compile();
  compilation.settings.target = &find_neuron_target("trn1");
  compile();
  EXPECT_EQ(entries.size(), 4U);
  compilation.settings.jobs = 7;
  compilation.settings.timeout = 1h;
  compile();
  EXPECT_EQ(entries.size(), 4U);
  EXPECT_EQ(compilation.count("begin"), 4);
}

TEST(CompileModules, AsManyCompilersAsJobs) {
  for (const int at_once : {1, 3}) {
    Compilation compilation("sleep 0.2");
    compilation.settings.jobs = at_once;
    compilation.compile(jobs(7));
    EXPECT_EQ(compilation.most_at_once(), at_once);
  }
}

TEST(CompileModules, ATimeoutEndsTheCompilerAndItsChildren) {
  const std::string mark = fmt::format("1234.{}", std::random_device()());
  Compilation compilation(fmt::format("echo working; sleep {0} & sleep {0}", mark));
  compilation.settings.timeout = 300ms;
  EXPECT_THAT(compilation.failure({job("slow")}),
              AllOf(HasSubstr("slow: neuronx-cc was ended after 0 s: use fewer --jobs"),
                    HasSubstr("\nworking")));
  EXPECT_TRUE(soon_no_process_with(mark));
  EXPECT_TRUE(compilation.files().size() == 1);  // a lock
}

TEST(CompileModules, AFailureHasNameCommandAndLastLines) {
  Compilation compilation("for i in $(seq 1 40); do echo line $i; done; exit 70");
  const std::string message = compilation.failure({job("encode-b1")});
  EXPECT_THAT(message,
              AllOf(HasSubstr("encode-b1: neuronx-cc ended with 70: the compiler does not take"),
                    HasSubstr("neuronx-cc compile module.hlo.pb --framework XLA"),
                    HasSubstr("\nline 26\n"), HasSubstr("\nline 40"), Not(HasSubstr("line 25"))));
  compilation.use("echo from the log > module.log; exit 1");
  EXPECT_THAT(compilation.failure({job("a")}), HasSubstr("ended with 1\n"));
  EXPECT_THAT(compilation.failure({job("a")}), HasSubstr("\nfrom the log"));
}

TEST(CompileModules, ExitCodesAreExplained) {
  Compilation compilation;
  const auto message = [&](const std::string& script) {
    compilation.use(script);
    return compilation.failure({job("a")});
  };
  for (const char* script : {"kill -9 $$", "exit 247", "exit 137"}) {
    EXPECT_THAT(message(script), HasSubstr("the machine ran out of memory; use fewer --jobs"));
  }
  for (const char* script : {"kill -11 $$", "exit 250"}) {
    EXPECT_THAT(message(script), HasSubstr("the compiler crashed"));
  }
  EXPECT_THAT(message("exit 0"), HasSubstr("ended well, but"));
  EXPECT_THAT(message("echo no NEFF > module.neff; exit 0"), HasSubstr("is no NEFF"));
  EXPECT_THAT(message("head -c 2000 /dev/zero > module.neff; exit 0"), HasSubstr("is no NEFF"));
  EXPECT_EQ(compilation.files().size(), 1U);
}

TEST(CompileModules, AModuleThatBreaksARuleFails) {
  Compilation compilation;
  HloForTest module;
  module.find("reduce").set_opcode("sort");
  EXPECT_THAT(compilation.failure({{"bad", module.bytes(), NeuronPhase::encode}}),
              HasSubstr("[NCC_EVRF029] reduce.19"));
}

TEST(CompileModules, AfterAFailureWhatRunsIsFinishedAndNothingBegins) {
  Compilation compilation("if grep -q decode-b0 module.hlo.pb; then exit 70; fi; sleep 0.3");
  compilation.settings.jobs = 2;
  EXPECT_THAT(compilation.failure(jobs(6)), HasSubstr("decode-b0: neuronx-cc ended with 70"));
  EXPECT_EQ(compilation.count("begin"), 2);
  EXPECT_EQ(compilation.count("end"), 1);
  compilation.use("");
  compilation.compile(jobs(2));
  EXPECT_EQ(compilation.count("begin"), 3);  // b1 was in the cache
}

TEST(CompileModules, AStopEndsAllSoon) {
  const std::string mark = fmt::format("1234.{}", std::random_device()());
  Compilation compilation("sleep " + mark);
  std::stop_source source;
  compilation.settings.stop = source.get_token();
  compilation.settings.jobs = 2;
  std::jthread other([&] {
    std::this_thread::sleep_for(300ms);
    source.request_stop();
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(compilation.failure(jobs(4)), HasSubstr("was stopped"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
  EXPECT_TRUE(soon_no_process_with(mark));
}

TEST(CompileModules, ADamagedEntryIsCompiledAgain) {
  Compilation compilation;
  const Path neff = compilation.compile({job("a")})[0].neff;
  const std::string good = read_file(neff, 1 << 20);
  std::mt19937_64 random(3);
  int again = 1;
  for (int i = 0; i < 8; ++i) {
    std::string bad = damaged(good, random);
    if (bad == good) continue;
    put_file(neff, bad);
    EXPECT_EQ(hlo_in(compilation.compile({job("a")})[0]), job("a").hlo);
    EXPECT_EQ(compilation.count("begin"), ++again);
  }
  std::filesystem::remove(Path(neff).concat(".sha256"));
  compilation.compile({job("a")});
  EXPECT_EQ(compilation.count("begin"), again + 1);
  EXPECT_EQ(compilation.files().size(), 2U);
}

TEST(CompileModules, WhatWasUsedLongestAgoMakesRoomUnlessItIsInUse) {
  Compilation compilation;
  const auto old = [&](const CompiledModule& module, int hours) {
    std::filesystem::last_write_time(
        module.neff.parent_path().concat(".lock"),
        std::filesystem::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  auto made = compilation.compile(jobs(3));
  for (int i = 0; i < 3; ++i) old(made[static_cast<size_t>(i)], 3 - i);
  const CompiledModule held = made[0];
  const Path second = made[1].neff, third = made[2].neff;
  made.clear();
  compilation.settings.cache_bytes = 4 * (std::filesystem::file_size(held.neff) + 500);
  compilation.compile({job("x1")});
  EXPECT_TRUE(std::filesystem::exists(second));
  compilation.compile({job("x2")});
  EXPECT_FALSE(std::filesystem::exists(second));
  EXPECT_TRUE(std::filesystem::exists(third));
  EXPECT_TRUE(std::filesystem::exists(held.neff));
}

// Runs `body` in another process; how it ends is its exit code.
pid_t in_process(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    body();
  } catch (const std::exception&) {
    ::_exit(1);
  }
  ::_exit(0);
}

int status_of(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(CompileModules, ProcessesAtOnceCompileOnce) {
  Compilation compilation("sleep 0.3");
  compilation.settings.jobs = 2;
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(in_process([&] {
      for (const CompiledModule& module : compilation.compile(jobs(3))) hlo_in(module);
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(compilation.count("begin"), 3);
  EXPECT_EQ(compilation.files().size(), 6U);
}

TEST(CompileModules, AKilledDriverLeavesACacheThatWorksAndNoCompiler) {
  const std::string mark = fmt::format("0.3{}", std::random_device()());
  Compilation compilation(fmt::format("echo half > module.neff; sleep {0}", mark));
  compilation.settings.jobs = 2;
  std::mt19937_64 random(5);
  int killed = 0;
  for (int round = 0; round < 12; ++round) {
    const pid_t child = in_process([&] { compilation.compile(jobs(4)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
    ::kill(child, SIGKILL);
    killed += WIFSIGNALED(status_of(child)) ? 1 : 0;
    EXPECT_TRUE(soon_no_process_with(mark));
    if (round % 4 != 3) continue;
    const auto start = std::chrono::steady_clock::now();
    for (const CompiledModule& module : compilation.compile(jobs(4))) hlo_in(module);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 30s);
    EXPECT_EQ(compilation.files().size(), 8U);
    std::filesystem::remove_all(compilation.home);
  }
  EXPECT_GT(killed, 3);
}

TEST(CompileModules, AFullDiskLeavesNothing) {
  Compilation compilation;
  compilation.compile({job("first")});
  const CompileJob second = job("second");
  for (const size_t room :
       {size_t{100}, second.hlo.size() + 100}) {  // not the module; not its NEFF
    const pid_t child = in_process([&] {
      const rlimit tiny = {room, room};
      ::signal(SIGXFSZ, SIG_IGN);
      ::setrlimit(RLIMIT_FSIZE, &tiny);
      compilation.compile({second});
    });
    EXPECT_NE(status_of(child), 0);
    EXPECT_EQ(compilation.files().size(), 3U);  // the second's lock besides
  }
  compilation.compile(jobs(1));
  EXPECT_EQ(compilation.files().size(), 4U);  // it is gone
}

TEST(CompileModules, TheEstimateGrowsWithTheModules) {
  const CompileJob large = {"a", std::string(384 << 10, 'x'), NeuronPhase::encode};
  const std::vector<CompileJob> four(4, large);
  EXPECT_DOUBLE_EQ(estimate_compilation(four, 1).minutes, 72);
  EXPECT_DOUBLE_EQ(estimate_compilation(four, 2).minutes, 36);
  EXPECT_EQ(estimate_compilation(four, 2).memory, uint64_t{32} << 30);
  EXPECT_EQ(estimate_compilation({}, 2).memory, 0U);
}

TEST(CompileModules, SaysWhatItWillTake) {
  Compilation compilation;
  const TemporaryDirectory directory;
  std::FILE* out = std::fopen((directory.path / "out").c_str(), "w");
  {
    Progress progress(false, out);
    compile_modules(jobs(2), compilation.settings, progress);
  }
  std::fclose(out);
  EXPECT_THAT(read_file(directory.path / "out", 10000),
              AllOf(HasSubstr("2 modules for inf2, 1 at a time, by neuronx-cc 2.27.5334.0: about 2 "
                              "minutes and 4 GiB"),
                    HasSubstr("decode-b1: compiled in ")));
}

}  // namespace
}  // namespace ng
