// Which words does `neuronx-cc compile` take? As it documents them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backends/neuron/version.h"

namespace ng {

struct CcArguments {
  std::string module, target;
  std::string output = "file.neff", logfile = "log-neuron-cc.txt";
  uint32_t lnc = 1;
};

// The words after `compile`, for a compiler of this version. An unknown flag, a wrong value, a flag
// that the target or the version has not: User, with the compiler's error code.
// Facts: SDK 2.32, compiler/neuronx-cc/api-reference-guide/index.rst. Not documented, and a guess,
// are the code of an unknown flag and the version in which a flag came.
CcArguments read_cc_arguments(std::span<const std::string> words, const NeuronVersion& version);

}  // namespace ng
