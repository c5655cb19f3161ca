// Modules on AWS Neuron, compiled by neuronx-cc and run by libnrt.
#pragma once

#include "backends/backend.h"
#include "backends/neuron/target.h"

namespace ng {

// One of the visible cores, or with ranks as many of them, from core · ranks on, which run a module
// together. options: library, core, ranks, emulated and programs, which gives the NEFF of
// a module by the module's name. load() takes the module itself, which says what the NEFF's tensors
// are: it is not compiled again. Its executables are destroyed before it and run one at a time;
// run() takes and gives exactly the module's types. Weights and states as PjrtDevice keeps them
// (backends/pjrt/pjrt.h); a run that fails may have changed the rows that it was to write.
//
// A library that is missing or lacks something, a NEFF that is not the module's, and whatever
// libnrt says: Device. A NEFF that cannot run here by its header: User (neff.h).
std::unique_ptr<Device> open_neuron(const NeuronTarget& target, const DeviceOptions& options);

// The stand-in for libnrt beside the program. Not there: Device.
std::string emulated_library();

}  // namespace ng
