// Which Neuron devices are there to compile for, and what differs between them?
#pragma once

#include <string_view>

namespace ng {

// Facts: AWS Neuron SDK 2.32, about-neuron/arch and neuronx-cc's command line reference.
struct NeuronTarget {
  std::string_view name;  // as neuronx-cc --target takes it
  std::string_view core;
  int cores;         // physical, of a chip
  int largest_lnc;   // physical cores that may make one logical core
  int standard_lnc;  // what neuronx-cc takes unless told
  int core_gib;      // of device memory, of a logical core
};

// Unknown names, and inf1: User, saying why and which is nearest.
const NeuronTarget& find_neuron_target(std::string_view name);

}  // namespace ng
