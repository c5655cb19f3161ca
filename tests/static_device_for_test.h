// A device with static shapes and states of its own whose numerics are the interpreter's: what a
// plugin is to the program, for tests.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "base/error.h"
#include "ir/interpret.h"

namespace ng::test {

// States by name, shared by every module of a device; they begin as zeros.
using StaticStates = std::map<std::string, Tensor>;

class StaticModule : public Executable {
 public:
  StaticModule(Graph graph, WeightSource weights, StaticStates& states)
      : graph_(std::move(graph)), weights_(std::move(weights)), states_(states) {
    for (const Named& in : graph_.inputs()) {
      const Type& type = graph_.type(in.value);
      const bool written = graph_.find_output(in.name).has_value();
      if (!written && !states_.contains(in.name)) {  // not a state of an earlier module either
        inputs_.push_back({in.name, type});
        continue;
      }
      const Tensor zeros =
          Tensor::own(type, std::vector<std::byte>(static_cast<size_t>(byte_count(type))));
      const Tensor& state = states_.emplace(in.name, zeros).first->second;
      NG_CHECK(state.type == type, "state {} of two types", in.name);
    }
    for (const Named& out : graph_.outputs) {
      if (!graph_.find_input(out.name)) outputs_.push_back({out.name, graph_.type(out.value)});
    }
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    Bindings bindings;
    for (size_t i = 0; i < inputs.size(); ++i) {
      bindings.inputs[inputs_[i].name] = copy_of(inputs[i]);
    }
    for (const Named& in : graph_.inputs()) {
      if (states_.contains(in.name)) bindings.inputs[in.name] = states_.at(in.name);
    }
    bindings.weight = weights_;
    std::map<std::string, Tensor> results = interpret(graph_, std::move(bindings));
    for (auto& [name, state] : states_) {
      if (results.contains(name)) state = results.at(name);
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Tensor& result = results.at(outputs_[i].name);
      std::memcpy(outputs[i].data, result.data.data(), result.data.size());
    }
  }

 private:
  Graph graph_;
  WeightSource weights_;
  StaticStates& states_;
  std::vector<Port> inputs_, outputs_;
};

}  // namespace ng::test
