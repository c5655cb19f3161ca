// Which neuronx-cc is there, and with which words is it called?
//
// neuronx-cc is AWS's and installed by the user; it is taken from the command line or $PATH, never
// from a bundle. Facts: SDK compiler/neuronx-cc/api-reference-guide/index.rst; the choice of flags
// follows neuronx-distributed-inference.
#pragma once

#include <span>
#include <stop_token>
#include <vector>

#include "backends/neuron/target.h"
#include "backends/neuron/version.h"
#include "base/file.h"

namespace ng {

struct NeuronCompiler {
  Path program;  // absolute
  NeuronVersion version;
};

// `program`: a path, or a name that $PATH has; empty: "neuronx-cc". Missing: User, saying how to
// get it. It does not say its version: Device.
NeuronCompiler find_neuronx_cc(const std::string& program, const std::stop_token& stop = {});

// The version in what `neuronx-cc --version` prints.
std::optional<NeuronVersion> version_in(std::string_view output);

// An encoder or prefill works on many tokens at once and is compiled -O1; a decode step is read
// through by every token: -O2.
enum class NeuronPhase { encode, prefill, decode };

struct NeuronFlags {
  const NeuronTarget* target = nullptr;
  NeuronVersion version;
  int lnc = 0;                     // 0: the target's own
  std::vector<std::string> extra;  // of --compiler-args, behind ours
};

// All words that decide what is compiled; no paths. An lnc that the target has not, or an extra
// word that sets what is ours (paths, framework, target): User.
std::vector<std::string> compiler_flags(const NeuronFlags& flags, NeuronPhase phase);

// `PROGRAM compile MODULE FLAGS --output OUT --logfile LOG`; LOG is OUT with .log
std::vector<std::string> command_words(const Path& program, const Path& module, const Path& output,
                                       std::span<const std::string> flags);

}  // namespace ng
