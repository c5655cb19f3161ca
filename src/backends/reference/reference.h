// The interpreter as a device: slow, readable, the oracle of the others.
#pragma once

#include <map>
#include <string>

#include "backends/backend.h"
#include "base/thread_pool.h"
#include "ir/graph.h"

namespace ng {

std::unique_ptr<Device> open_reference(const DeviceOptions& options);

// A module of a static target as its graph says. Its states, and inputs that are states of modules
// before it, are kept in `states`, which begin as zeros. Of several ranks, all: their outputs and
// states one after the other. `threads` may be null.
using HeldStates = std::map<std::string, Tensor>;
std::unique_ptr<Executable> interpret_module(Graph graph, WeightSource weights, ThreadPool* threads,
                                             HeldStates& states);

}  // namespace ng
