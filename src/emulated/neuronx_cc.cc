// A stand-in for AWS's neuronx-cc: takes the same words, checks the same rules as far as they are
// published, and writes a pseudo-NEFF. It compiles nothing.
//
// For tests and rehearsals, by the environment:
//   EMULATED_NEURONX_CC          what `compile` does besides, e.g. "sleep=0.5,exit=70":
//   sleep=SECONDS,
//                                signal=N, exit=CODE, garbage (a file that is no NEFF), nothing (no
//                                file)
//   EMULATED_NEURONX_CC_VERSION  the version it is said to be
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "backends/xla/wire.h"
#include "base/error.h"
#include "base/file.h"
#include "emulated/cc_arguments.h"
#include "emulated/neuron_rules.h"
#include "emulated/pseudo_neff.h"

namespace ng {
namespace {

constexpr int kFailure = 70;  // commonly seen of neuronx-cc

// SDK release-notes/components/compiler.rst, Supported XLA Operators. What the real command prints
// is not published; a name a line.
constexpr std::string_view kOperators =
    "Abs Add Allgather Allreduce Atan2 Batchnorm Batchnormgrad Batchnorminference "
    "BitcastConvertType Broadcast BroadcastInDim Ceil Clamp Compare Concatenate Constant "
    "ConstantLiteral ConvertElementType Cos Customcall Div Dot DotGeneral "
    "DynamicUpdateSlice Eq Exp Floor Gather Ge GetTupleElement Gt Iota Le Log LogicalAnd "
    "LogicalNot Lt Max Min Mul Ne Neg Pad Pow Reduce Reshape Rev RngBitGenerator "
    "RngUniform Rsqrt Scatter Select SelectAndScatter ShiftRightLogical Sign Sin Slice "
    "Sqrt Sub Tanh Transpose Tuple";

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

NeuronVersion own_version() {
  const auto version =
      parse_neuron_version(environment("EMULATED_NEURONX_CC_VERSION", "2.27.5334.0+emulated"));
  check(version.has_value(), "EMULATED_NEURONX_CC_VERSION is no version");
  return *version;
}

// The value of `name` in EMULATED_NEURONX_CC; "yes" for a name alone, "" where it is not.
std::string fault(std::string_view name) {
  const std::string all = environment("EMULATED_NEURONX_CC", "");
  for (size_t at = 0; at < all.size();) {
    const std::string one = all.substr(at, all.find(',', at) - at);
    if (one == name) return "yes";
    if (one.starts_with(std::string(name) + "=")) return one.substr(name.size() + 1);
    at += one.size() + 1;
  }
  return "";
}

void inject_faults() {
  if (const std::string seconds = fault("sleep"); !seconds.empty()) {
    std::this_thread::sleep_for(std::chrono::duration<double>(std::atof(seconds.c_str())));
  }
  if (const std::string signal = fault("signal"); !signal.empty()) {
    ::kill(::getpid(), std::atoi(signal.c_str()));
  }
  if (const std::string code = fault("exit"); !code.empty()) {
    fmt::print(stderr, "[ERROR] an injected failure\n");
    std::exit(std::atoi(code.c_str()));
  }
}

int compile(const std::vector<std::string>& words) {
  const NeuronVersion version = own_version();
  const CcArguments arguments = read_cc_arguments(words, version);
  const std::string hlo = read_file(arguments.module, kModuleBytes);
  inject_faults();
  std::string log;
  for (const Violation& violation : neuron_violations(hlo)) {
    log += fmt::format("[ERROR] {}\n", describe(violation));
  }
  const bool good = log.empty();
  log += good ? "Compiler status PASS\n" : "Compiler status ERROR\n";
  fmt::print(stderr, "{}", log);
  write_file(arguments.logfile, log);
  if (!good) return kFailure;
  const std::string name = Path(arguments.module).filename().string();
  const std::string neff = pseudo_neff(hlo, name, version, arguments.lnc);
  if (fault("nothing").empty()) {
    write_file(arguments.output, fault("garbage").empty() ? neff : "no NEFF");
  }
  return 0;
}

int run(const std::vector<std::string>& words) {
  if (words == std::vector<std::string>{"--version"}) {
    fmt::print("NeuronX Compiler version {}\n\nemulated: a stand-in, no part of AWS's\n",
               own_version().text);
    return 0;
  }
  check(!words.empty(), "usage: neuronx-cc {{compile,list-operators}} ...");
  if (words[0] == "compile") return compile({words.begin() + 1, words.end()});
  const bool lists = words == std::vector<std::string>{"list-operators", "--framework", "XLA"} ||
                     words == std::vector<std::string>{"list-operators", "--framework=XLA"};
  check(lists, "[NCC_EARG001] unrecognized arguments: {}", shown(words[0]));
  std::string lines(kOperators);
  std::replace(lines.begin(), lines.end(), ' ', '\n');
  fmt::print("{}\n", lines);
  return 0;
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  try {
    return ng::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "[ERROR] {}\n", error.what());
    return ng::kFailure;
  }
}
