#include "backends/neuron/compiler.h"

#include <unistd.h>

#include "base/error.h"
#include "base/process.h"

namespace ng {
namespace {

constexpr auto kVersionTimeout = std::chrono::seconds(120);  // it is a large Python program

enum Targets : unsigned { kV2 = 1, kTrn2 = 2, kAny = 3 };
enum Phases : unsigned { kDense = 1, kDecode = 2, kAll = 3 };

// One row a flag, in the order of the command line.
struct FlagRow {
  std::string_view words;
  unsigned targets, phases;
  uint32_t since;  // minor version, of major 2, that knows the flag
};

// --auto-cast none: the graph says where bf16 is. --enable-saturate-infinity: no NaN from masks.
// The two integer flags: 2.27 announces that their defaults flip in the next version; our modules
// hold s32 alone, either way (SDK, neuronx-cc reference, "--native-int64").
constexpr FlagRow kFlags[] = {
    {"--model-type transformer", kAny, kAll, 0},
    {"--auto-cast none", kAny, kAll, 0},
    {"-O1", kAny, kDense, 0},
    {"-O2", kAny, kDecode, 0},
    {"--enable-saturate-infinity", kAny, kAll, 0},
    {"--native-int64=disabled", kTrn2, kAll, 27},
    {"--implicit-integer-downcast=all", kTrn2, kAll, 27},
};

constexpr std::string_view kOurs[] = {"--output", "--logfile", "--framework", "--target"};

bool knows(const NeuronVersion& version, uint32_t since) {
  return version >= NeuronVersion{{2, since, 0, 0}, ""};
}

void check_extra(std::span<const std::string> extra) {
  for (const std::string& word : extra) {
    const std::string name = word.substr(0, word.find('='));
    for (const std::string_view ours : kOurs) {
      check(name != ours, "--compiler-args: {} is set by neuroglot: leave it out", ours);
    }
  }
}

Path located(const std::string& program) {
  const std::string name = program.empty() ? "neuronx-cc" : program;
  const bool is_path = name.find('/') != std::string::npos;
  const Path path = is_path ? std::filesystem::absolute(name) : find_program(name);
  std::error_code ignored;
  const bool runs = !path.empty() && std::filesystem::is_regular_file(path, ignored) &&
                    ::access(path.c_str(), X_OK) == 0;
  check(runs,
        "{}: {}. It is AWS's compiler, on any x86-64 Linux: `pip install 'neuronx-cc==2.*' "
        "--extra-index-url https://pip.repos.neuron.amazonaws.com`; or give --neuronx-cc PATH, or "
        "--emit-only and compile the modules elsewhere",
        shown(name, 1000), is_path ? "is no program that can be run" : "is not in $PATH");
  return path;
}

}  // namespace

std::optional<NeuronVersion> version_in(std::string_view output) {
  constexpr std::string_view kBefore = "Compiler version ";
  const size_t named = output.find(kBefore);
  if (named != output.npos) return parse_neuron_version(output.substr(named + kBefore.size()));
  return parse_neuron_version(
      output.substr(std::min(output.find_first_not_of(" \t\r\n"), output.size())));
}

NeuronCompiler find_neuronx_cc(const std::string& program, const std::stop_token& stop) {
  NeuronCompiler compiler;
  compiler.program = located(program);
  Command command;
  command.argv = {compiler.program.string(), "--version"};
  command.timeout = kVersionTimeout;
  command.stop = stop;
  const Ended ended = run_process(command);
  const auto version = ended.exit_code == 0 ? version_in(ended.output) : std::nullopt;
  if (!version) {
    throw Error(Error::Kind::Device,
                fmt::format("{} does not tell a version ({}):\n{}", shell_quoted(command.argv),
                            ended.timed_out ? "no answer in 120 s"
                            : ended.signal  ? fmt::format("signal {}", ended.signal)
                                            : fmt::format("exit code {}", ended.exit_code),
                            last_lines(ended.output, 10)));
  }
  compiler.version = *version;
  return compiler;
}

std::vector<std::string> compiler_flags(const NeuronFlags& flags, NeuronPhase phase) {
  const NeuronTarget& target = *flags.target;
  check(flags.lnc >= 0 && flags.lnc <= target.largest_lnc,
        "{} has logical cores of at most {} physical ones, not {}", target.name, target.largest_lnc,
        flags.lnc);
  check_extra(flags.extra);
  const unsigned device = target.largest_lnc > 1 ? kTrn2 : kV2;
  const unsigned kind = phase == NeuronPhase::decode ? kDecode : kDense;
  std::vector<std::string> words = {"--framework", "XLA", "--target", std::string(target.name)};
  for (const FlagRow& row : kFlags) {
    if (!(row.targets & device) || !(row.phases & kind) || !knows(flags.version, row.since)) {
      continue;
    }
    for (std::string& word : split_words(row.words, "flags")) words.push_back(std::move(word));
  }
  if (target.largest_lnc > 1) {  // a target of one kind of core is not asked
    words.insert(words.end(),
                 {"--lnc", std::to_string(flags.lnc ? flags.lnc : target.standard_lnc)});
  }
  words.insert(words.end(), {"--verbose", "35"});
  words.insert(words.end(), flags.extra.begin(), flags.extra.end());
  return words;
}

std::vector<std::string> command_words(const Path& program, const Path& module, const Path& output,
                                       std::span<const std::string> flags) {
  std::vector<std::string> words = {program.string(), "compile", module.string()};
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), {"--output", output.string(), "--logfile",
                             Path(output).replace_extension(".log").string()});
  return words;
}

}  // namespace ng
