// The interpreter as a device: slow, readable, the oracle of the others.
#pragma once

#include "backends/backend.h"

namespace ng {

std::unique_ptr<Device> open_reference(const DeviceOptions& options);

}  // namespace ng
