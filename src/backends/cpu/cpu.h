// The CPU as a device: a plan of kernel calls a graph.
#pragma once

#include "backends/backend.h"

namespace ng {

// NEUROGLOT_ISA forces one instruction set: User when this CPU or build lacks it.
std::unique_ptr<Device> open_cpu(const DeviceOptions& options);

}  // namespace ng
