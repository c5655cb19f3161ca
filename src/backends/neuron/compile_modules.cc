#include "backends/neuron/compile_modules.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/machine.h"
#include "base/process.h"

namespace ng {
namespace {

constexpr auto kLockPause = std::chrono::milliseconds(50);
constexpr size_t kShownLines = 15;
constexpr size_t kLogBytes = size_t{64} << 20;

std::string key_of(const CompileJob& job, std::span<const std::string> flags,
                   const NeuronVersion& version) {
  std::string text = "neff 1";
  const auto add = [&](std::string_view part) { text.append(1, '\0').append(part); };
  add(sha256(job.hlo));
  add(version.text);
  for (const std::string& flag : flags) add(flag);  // the target is one of them
  return sha256(text);
}

// What exit codes mean: the compiler's own, Python's for a signal (256 - n), a shell's (128 + n).
// Sources: torch_neuronx's trace.py; neuronx-cc's documentation has none.
std::string reason_of(const Ended& ended, const CompileSettings& settings) {
  if (ended.timed_out) {
    return fmt::format("was ended after {:.0f} s: use fewer --jobs, or --emit-only and finish",
                       std::chrono::duration<double>(settings.timeout).count());
  }
  const auto is = [&](int signal) {
    return ended.signal == signal || ended.exit_code == 256 - signal ||
           ended.exit_code == 128 + signal;
  };
  const std::string how = ended.signal != 0 ? fmt::format("ended by signal {}", ended.signal)
                                            : fmt::format("ended with {}", ended.exit_code);
  if (is(9)) {
    return how + ": the machine ran out of memory; use fewer --jobs, or a machine with more";
  }
  if (is(6) || is(11)) return how + ": the compiler crashed";
  if (ended.exit_code == 70) return how + ": the compiler does not take the module";
  return how;
}

class ModuleCompilation {
 public:
  ModuleCompilation(std::span<const CompileJob> jobs, const CompileSettings& settings,
                    Progress& progress)
      : jobs_(jobs),
        settings_(settings),
        progress_(progress),
        cache_(settings.cache.empty() ? cache_root() / "neffs" : settings.cache) {
    std::error_code error;
    std::filesystem::create_directories(cache_.directory(), error);  // FileLock says what is wrong
    for (size_t i = 0; i < jobs.size(); ++i) {
      flags_.push_back(
          compiler_flags({settings.target, settings.compiler.version, settings.lnc, settings.extra},
                         jobs[i].phase));
      keys_.push_back(key_of(jobs[i], flags_[i], settings.compiler.version));
      if (first_of_.emplace(keys_[i], i).second) todo_.push_back(i);
    }
  }

  std::vector<CompiledModule> run() {
    say_plan();
    results_.resize(jobs_.size());
    errors_.resize(jobs_.size());
    {
      std::vector<std::jthread> team;
      for (int i = 0; i < std::clamp<int>(settings_.jobs, 1, static_cast<int>(todo_.size())); ++i) {
        team.emplace_back([this] { work(); });
      }
    }
    throw_failure();
    for (size_t i = 0; i < jobs_.size(); ++i) {
      results_[i] = results_[first_of_.at(keys_[i])];
      results_[i].name = jobs_[i].name;
    }
    return std::move(results_);
  }

 private:
  void say(const std::string& line) {
    const std::lock_guard hold(mutex_);
    progress_.say(line);
  }

  void say_plan() {
    const CompileEstimate estimate = estimate_compilation(jobs_, settings_.jobs);
    say(
        fmt::format("{} modules for {}, {} at a time, by neuronx-cc {}: about {:.0f} minutes and "
                    "{:.0f} GiB of memory (guesses; less what the cache has)",
                    todo_.size(), settings_.target->name, std::max(settings_.jobs, 1),
                    settings_.compiler.version.text, estimate.minutes,
                    static_cast<double>(estimate.memory) / (1 << 30)));
    if (estimate.memory > available_memory()) {
      say("that is more memory than is free: fewer --jobs, or --emit-only and a larger machine");
    }
  }

  void work() {
    for (size_t next = 0; !failed_ && (next = next_++) < todo_.size();) {
      const size_t i = todo_[next];
      try {
        results_[i] = take(i);
      } catch (const Error& error) {
        failed_ = true;
        errors_[i].emplace(error);
        say(fmt::format("{}: failed", jobs_[i].name));
      } catch (const std::exception& error) {
        failed_ = true;
        errors_[i].emplace(Error::Kind::Internal, error.what());
      }
    }
  }

  void throw_failure() const {
    const auto has_failed = [](const std::optional<Error>& error) { return error.has_value(); };
    const auto first = std::find_if(errors_.begin(), errors_.end(), has_failed);
    if (first == errors_.end()) return;
    check_not_stopped();
    const auto others = std::count_if(first + 1, errors_.end(), has_failed);
    const std::string more = others > 0 ? fmt::format("\n{} more modules failed", others) : "";
    throw Error((*first)->kind(), (*first)->what() + more);
  }

  // From the cache, or compiled into it. Who does not get a lock tries again: a wait for another
  // process ends when we are told to stop.
  CompiledModule take(size_t i) {
    const Path lock = cache_.lock(keys_[i]);
    bool said = false;
    while (true) {
      if (auto shared = FileLock::try_lock(lock, FileLock::Kind::Shared)) {
        if (auto found = find(i)) {
          DiskCache::mark_used(*shared);
          found->in_use = std::make_shared<const FileLock>(std::move(*shared));
          return std::move(*found);
        }
      }
      check_not_stopped();
      if (const auto own = FileLock::try_lock(lock, FileLock::Kind::Exclusive)) {
        if (find(i)) continue;  // another process was quicker
        cache_.remove_leftovers(keys_[i]);
        cache_.label(*own, shown(jobs_[i].name));
        compile(i);
        continue;
      }
      if (!said) say(fmt::format("{}: waiting for another process", jobs_[i].name));
      said = true;
      std::this_thread::sleep_for(kLockPause);
    }
  }

  // The entry, if it is there and whole; for the holder of either lock.
  std::optional<CompiledModule> find(size_t i) const {
    const Path neff = cache_.entry(keys_[i]) / "module.neff";
    std::error_code error;
    if (!std::filesystem::exists(neff, error)) return std::nullopt;
    try {
      const auto file = MappedFile::open(neff);
      if (read_file(Path(neff).concat(".sha256"), 200) != hash_line(sha256(file->bytes()))) {
        return std::nullopt;
      }
      return CompiledModule{jobs_[i].name, neff, nullptr,
                            read_neff_header(file->bytes(), neff.string())};
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  static std::string hash_line(const std::string& hash) { return hash + "  module.neff\n"; }

  void check_not_stopped() const {
    if (settings_.stop.stop_requested()) {
      throw Error(Error::Kind::Device, "neuronx-cc was stopped; finished modules are in the cache");
    }
  }

  // The compiler leaves files where it runs: what is wanted is moved out of its directory.
  void compile(size_t i) {
    const auto start = std::chrono::steady_clock::now();
    DirectoryWriter entry(cache_.entry(keys_[i]), true);
    const Path scratch = entry.path() / "scratch", neff = entry.path() / "module.neff";
    std::filesystem::create_directory(scratch);
    write_file(scratch / "module.hlo.pb", jobs_[i].hlo);
    const std::vector<std::string> words =
        command_words(settings_.compiler.program, "module.hlo.pb", "module.neff", flags_[i]);
    run_compiler(i, words, scratch);
    std::filesystem::rename(scratch / "module.neff", neff);
    std::filesystem::remove_all(scratch);
    const auto file = MappedFile::open(neff);
    write_file(Path(neff).concat(".sha256"), hash_line(sha256(file->bytes())));
    write_file(entry.path() / "command.txt", shell_quoted(words) + "\n");
    cache_.make_room(file->bytes().size(), settings_.cache_bytes);
    entry.commit();
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start);
    say(fmt::format("{}: compiled in {:.1f} s, {} bytes", jobs_[i].name, seconds.count(),
                    file->bytes().size()));
  }

  // Throws unless a NEFF is there.
  void run_compiler(size_t i, const std::vector<std::string>& words, const Path& scratch) const {
    Command command;
    command.argv = words;
    command.directory = scratch;
    command.timeout = settings_.timeout;
    command.stop = settings_.stop;
    const Ended ended = run_process(command);
    if (ended.stopped) check_not_stopped();
    std::string problem = reason_of(ended, settings_);
    if (ended.exit_code == 0 && !ended.timed_out) {
      problem = error_in(scratch / "module.neff");
      if (problem.empty()) return;
    }
    std::string lines = last_lines(ended.output, kShownLines);
    if (lines.empty()) lines = last_lines(log_of(scratch / "module.log"), kShownLines);
    throw Error(Error::Kind::Device,
                fmt::format("{}: neuronx-cc {}\n{}\n{}", jobs_[i].name, problem,
                            shell_quoted(words), lines.empty() ? "(it printed nothing)" : lines));
  }

  static std::string error_in(const Path& neff) {
    try {
      read_neff_header(MappedFile::open(neff)->bytes(), "its output");
      return "";
    } catch (const Error& error) {
      return fmt::format("ended well, but {}", error.what());
    }
  }

  static std::string log_of(const Path& log) {
    try {
      return read_file(log, kLogBytes);
    } catch (const Error&) {
      return "";
    }
  }

  std::span<const CompileJob> jobs_;
  const CompileSettings& settings_;
  Progress& progress_;
  const DiskCache cache_;
  std::vector<std::vector<std::string>> flags_;  // of each job
  std::vector<std::string> keys_;
  std::map<std::string, size_t> first_of_;  // equal modules are compiled once
  std::vector<size_t> todo_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::vector<CompiledModule> results_;
  std::vector<std::optional<Error>> errors_;
  std::mutex mutex_;
};

}  // namespace

std::vector<CompiledModule> compile_modules(std::span<const CompileJob> jobs,
                                            const CompileSettings& settings, Progress& progress) {
  NG_CHECK(settings.target != nullptr, "no target");
  if (jobs.empty()) return {};
  return ModuleCompilation(jobs, settings, progress).run();
}

CompileEstimate estimate_compilation(std::span<const CompileJob> jobs, int at_once) {
  std::vector<double> busy(std::clamp<size_t>(at_once, 1, std::max<size_t>(jobs.size(), 1)), 0.0);
  std::vector<double> sizes;  // in modules of 24 layers
  for (const CompileJob& job : jobs) {
    sizes.push_back(static_cast<double>(job.hlo.size()) / (384 << 10));
    *std::min_element(busy.begin(), busy.end()) += 1 + 17 * sizes.back();
  }
  std::sort(sizes.rbegin(), sizes.rend());
  CompileEstimate estimate;
  estimate.minutes = *std::max_element(busy.begin(), busy.end());
  for (size_t i = 0; i < std::min(busy.size(), sizes.size()); ++i) {
    estimate.memory += static_cast<uint64_t>((4 + 12 * sizes[i]) * (1 << 30));
  }
  return estimate;
}

}  // namespace ng
