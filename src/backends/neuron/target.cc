#include "backends/neuron/target.h"

#include "base/error.h"

namespace ng {
namespace {

constexpr NeuronTarget kTargets[] = {
    {"inf2", "NeuronCore-v2", 2, 1, 1, 16},
    {"trn1", "NeuronCore-v2", 2, 1, 1, 16},
    {"trn2", "NeuronCore-v3", 8, 2, 2, 24},
};

}  // namespace

const NeuronTarget& find_neuron_target(std::string_view name) {
  std::string known;
  for (const NeuronTarget& target : kTargets) {
    if (target.name == name) return target;
    known += fmt::format(" {}", target.name);
  }
  check(name != "inf1",
        "target inf1: Inferentia1 has another instruction set (NeuronCore-v1), which neuronx-cc "
        "does not compile for; its compiler is neuron-cc, with torch-neuron, and takes no HLO. The "
        "nearest that can be had is an Inf2 instance: --target inf2");
  fail("there is no Neuron target \"{}\"; they are:{}", shown(name), known);
}

}  // namespace ng
