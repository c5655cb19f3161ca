// What does a module take and give? What a device needs to bind buffers to it.
#pragma once

#include <string_view>
#include <vector>

#include "backends/backend.h"

namespace ng {

// By the names of the graph. Parameters are numbered through inputs, states and weights, in this
// order; outputs are the elements of the root's tuple. A runtime that binds by name finds them as
// module_name() (legal.h) says; outputs have their own names.
struct ModuleInterface {
  std::string name;
  std::vector<Port> inputs, states, weights, outputs;
  struct Alias {
    size_t output = 0, parameter = 0;
    bool operator==(const Alias&) const = default;
  };
  std::vector<Alias> aliases;   // one a state, in the order of outputs: types and names are equal
  int64_t ranks = 1;            // that its all-reduces sum, numbered from 0
  std::vector<Alias> replaced;  // inputs that are states too, with what they become (ir/replaced.h)
};

// Of what emit_hlo() wrote. Bounded and hostile-proof: what does not add up is a User error that
// names `what`. Only the entry computation's two ends are read; import_hlo() looks at everything.
ModuleInterface read_interface(std::string_view hlo, std::string_view what);

// What of a module a caller binds; the rest the device keeps. held[i]: input i is a state that
// another module writes or this one replaces.
struct CallerPorts {
  std::vector<Port> inputs, outputs;
  std::vector<size_t> output_numbers;
};
CallerPorts caller_ports(const ModuleInterface& interface, const std::vector<bool>& held);
void check_ranks(const ModuleInterface& interface, int64_t ranks);  // it is for as many: else User
// The same of all ranks, one after the other along the first axis.
std::vector<Port> of_ranks(std::vector<Port> ports, int64_t ranks);
// Exact types in this order: else User.
void check_arguments(std::span<const Argument> arguments, const std::vector<Port>& ports);

}  // namespace ng
