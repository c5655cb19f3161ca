// Which tensors does a device keep for the modules that it runs? Weights and states, by name.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "backends/xla/module.h"
#include "base/error.h"
#include "tensor/ranks.h"

namespace ng {

// What rank `rank` of `ranks` needs.
inline WeightSource weights_of(const WeightSource& all, int64_t rank, int64_t ranks) {
  return [all, rank, ranks](const std::string& name) { return all(rank_name(name, rank, ranks)); };
}

// Shared by all modules of a device. What a Handle is, is the device's matter.
template <class Handle>
class Residents {
 public:
  struct Resident {
    Type type;
    Handle buffer;
    Handle spare = {};  // of a state that runs replace, where its next buffer is made beforehand
  };
  struct Bound {
    std::vector<Resident*> inputs;  // states of another module or replaced; null: the caller gives
    std::vector<Resident*> states, weights;

    std::vector<bool> held() const {
      std::vector<bool> found;
      for (const Resident* input : inputs) found.push_back(input != nullptr);
      return found;
    }
  };
  using Upload = std::function<Handle(const Tensor& tensor, const std::string& name)>;

  // What a module names; what is not there yet is uploaded, states as zeros. An input that a module
  // bound before has as a state of that type is held. Another type than before, or than the weight
  // has: User.
  Bound bind(const ModuleInterface& interface, const WeightSource& weights, const Upload& upload) {
    Bound bound;
    const auto find_state = [&](const Port& port) -> Resident& {
      return find_or_upload(states_, port, [&] {
        const auto bytes = static_cast<size_t>(byte_count(port.type));
        return upload(Tensor::own(port.type, std::vector<std::byte>(bytes)), port.name);
      });
    };
    for (const auto& state : interface.replaced) find_state(interface.inputs[state.parameter]);
    for (const Port& port : interface.inputs) {
      const auto held = states_.find(port.name);
      const bool is_state = held != states_.end() && held->second.type == port.type;
      bound.inputs.push_back(is_state ? &held->second : nullptr);
    }
    for (const Port& port : interface.states) bound.states.push_back(&find_state(port));
    for (const Port& port : interface.weights) {
      bound.weights.push_back(&find_or_upload(weights_, port, [&] {
        const Tensor tensor = weights(port.name);
        check(tensor.type == port.type, "weight '{}' is {}, the module wants {}", shown(port.name),
              to_string(tensor.type), to_string(port.type));
        return upload(tensor, port.name);
      }));
    }
    return bound;
  }

  // What a module bound as a state.
  const Resident& state(const std::string& name) const { return states_.at(name); }

 private:
  using Named = std::map<std::string, Resident>;
  static Resident& find_or_upload(Named& residents, const Port& port,
                                  const std::function<Handle()>& make) {
    const auto found = residents.find(port.name);
    if (found == residents.end()) {
      return residents.emplace(port.name, Resident{port.type, make()}).first->second;
    }
    check(found->second.type == port.type, "'{}' is {} in one module, {} in another",
          shown(port.name), to_string(found->second.type), to_string(port.type));
    return found->second;
  }

  Named weights_, states_;
};

}  // namespace ng
