// Which inputs and outputs does a session bind in each phase?
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "backends/backend.h"

namespace ng {

struct Ports {
  std::span<const Port> inputs, outputs;
};

// User, naming phase and port, unless `phase` has every port that a session binds, of the type that
// it binds, and no other inputs but states: those of its own and those for which `is_state` holds.
void check_ports(std::string_view phase, const Ports& ports, int64_t vocabulary,
                 const std::function<bool(const std::string& name)>& is_state);

}  // namespace ng
