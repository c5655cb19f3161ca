#include "backends/pjrt/pjrt.h"

#include <deque>
#include <map>

#include "backends/pjrt/client.h"
#include "backends/xla/emit_stablehlo.h"
#include "backends/xla/import_hlo.h"
#include "backends/xla/module.h"
#include "base/error.h"

namespace ng {
namespace {

using pjrt::Client;
using pjrt::Compiled;
using pjrt::Handle;

// A weight or a state, shared by the executables that name it. A state's buffer is gone while a run
// uses it up, and for good if that run fails.
struct Resident {
  Type type;
  Handle buffer;
};
using Residents = std::map<std::string, Resident>;

// One of `residents` by the name and type of `port`; `make` gives the bytes of a new one.
Resident& find_or_upload(const Client& client, Residents& residents, const Port& port,
                         const std::function<Tensor()>& make) {
  const auto found = residents.find(port.name);
  if (found != residents.end()) {
    check(found->second.type == port.type, "'{}' is {} in one module, {} in another",
          shown(port.name), to_string(found->second.type), to_string(port.type));
    return found->second;
  }
  const Tensor tensor = make();
  check(tensor.type == port.type, "weight '{}' is {}, the module wants {}", shown(port.name),
        to_string(tensor.type), to_string(port.type));
  Handle buffer = client.upload(port.type, tensor.data.data(), 0);
  return residents.emplace(port.name, Resident{port.type, std::move(buffer)}).first->second;
}

Tensor zeros(const Type& type) {
  return Tensor::own(type, std::vector<std::byte>(static_cast<size_t>(byte_count(type))));
}

// Does the plugin see in the module what we do?
void check_compiled(const Compiled& compiled, const ModuleInterface& interface) {
  const auto differ = [](const std::string& message) {
    throw Error(Error::Kind::Device, "the PJRT plugin misread a module: " + message);
  };
  const std::vector<Port>& outputs = interface.outputs;
  if (compiled.outputs != outputs.size()) {
    differ(fmt::format("it finds {} outputs of {}", compiled.outputs, outputs.size()));
  }
  for (size_t i = 0; compiled.output_types && i < outputs.size(); ++i) {
    const Type& type = (*compiled.output_types)[i];
    if (type == outputs[i].type) continue;
    differ(fmt::format("output '{}' is {}, it finds {}", shown(outputs[i].name),
                       to_string(outputs[i].type), to_string(type)));
  }
  int64_t bytes = 0;
  for (const Port& state : interface.states) bytes += byte_count(state.type);
  if (compiled.memory && compiled.memory->aliases != bytes) {
    differ(fmt::format("the states that change in place are {} bytes, it finds {}", bytes,
                       compiled.memory->aliases));
  }
}

struct Bound {
  std::vector<const Resident*> inputs;  // states that another module writes; null: the caller gives
  std::vector<Resident*> states;
  std::vector<const Resident*> weights;
};

class PjrtExecutable : public Executable {
 public:
  PjrtExecutable(const Client& client, Compiled compiled, ModuleInterface interface, Bound bound,
                 int64_t& runs)
      : client_(client),
        compiled_(std::move(compiled)),
        interface_(std::move(interface)),
        bound_(std::move(bound)),
        runs_(runs) {
    std::vector<bool> is_state(interface_.outputs.size());
    for (const auto& alias : interface_.aliases) is_state.at(alias.output) = true;
    for (size_t i = 0; i < is_state.size(); ++i) {
      if (is_state[i]) continue;
      outputs_.push_back(interface_.outputs[i]);
      output_numbers_.push_back(i);
    }
    for (size_t i = 0; i < interface_.inputs.size(); ++i) {
      if (bound_.inputs[i] == nullptr) inputs_.push_back(interface_.inputs[i]);
    }
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    check_types(inputs, inputs_);
    check_types(outputs, outputs_);
    std::vector<Handle> uploaded;
    for (const Argument& input : inputs) {
      NG_CHECK(input.data != nullptr, "an input without bytes");
      uploaded.push_back(client_.upload(input.type, input.data, 0));
    }
    const std::vector<Handle> results = execute(uploaded);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      client_.download(results[output_numbers_[i]], outputs[i].type, outputs[i].data);
    }
    ++runs_;
  }

 private:
  static void check_types(std::span<const Argument> arguments, const std::vector<Port>& ports) {
    NG_CHECK(arguments.size() == ports.size(), "{} buffers for {}", arguments.size(), ports.size());
    for (size_t i = 0; i < ports.size(); ++i) {
      check(arguments[i].type == ports[i].type, "'{}' is {}, the module has exactly {}",
            shown(ports[i].name), to_string(arguments[i].type), to_string(ports[i].type));
    }
  }

  static void check_there(const Resident& state, const Port& port) {
    if (state.buffer != nullptr) return;
    throw Error(Error::Kind::Device,
                fmt::format("state '{}' was lost when a run failed", shown(port.name)));
  }

  std::vector<Handle> execute(const std::vector<Handle>& uploaded) {
    std::vector<void*> arguments;
    auto given = uploaded.begin();
    for (size_t i = 0; i < bound_.inputs.size(); ++i) {
      if (bound_.inputs[i] != nullptr) check_there(*bound_.inputs[i], interface_.inputs[i]);
      const Handle& buffer = bound_.inputs[i] != nullptr ? bound_.inputs[i]->buffer : *given++;
      arguments.push_back(buffer.get());
    }
    for (size_t i = 0; i < bound_.states.size(); ++i) {
      check_there(*bound_.states[i], interface_.states[i]);
    }
    std::vector<Handle> used_up;
    for (Resident* state : bound_.states) used_up.push_back(std::move(state->buffer));
    for (const Handle& state : used_up) arguments.push_back(state.get());
    for (const Resident* weight : bound_.weights) arguments.push_back(weight->buffer.get());
    std::vector<Handle> results = std::move(client_.execute(compiled_, {&arguments, 1}).front());
    for (const auto& alias : interface_.aliases) {
      const size_t state = alias.parameter - interface_.inputs.size();
      bound_.states.at(state)->buffer = std::move(results.at(alias.output));
    }
    return results;
  }

  const Client& client_;
  const Compiled compiled_;
  const ModuleInterface interface_;
  const Bound bound_;
  int64_t& runs_;
  std::vector<Port> inputs_, outputs_;  // those that are no states,
  std::vector<size_t> output_numbers_;  // and where outputs_ stand in the module
};

class OpenedPjrt : public PjrtDevice {
 public:
  explicit OpenedPjrt(const PjrtOptions& options)
      : client_(options.plugin, 1), format_(options.format) {}

  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    ModuleInterface interface = read_interface(artifact, "artifact");
    Compiled compiled = compile(artifact);
    check_compiled(compiled, interface);
    Bound bound;
    for (const Port& port : interface.inputs) {
      const auto held = states_.find(port.name);
      const bool is_state = held != states_.end() && held->second.type == port.type;
      bound.inputs.push_back(is_state ? &held->second : nullptr);
    }
    for (const Port& port : interface.states) {
      bound.states.push_back(
          &find_or_upload(client_, states_, port, [&] { return zeros(port.type); }));
    }
    for (const Port& port : interface.weights) {
      bound.weights.push_back(
          &find_or_upload(client_, weights_, port, [&] { return weights(port.name); }));
    }
    return std::make_unique<PjrtExecutable>(client_, std::move(compiled), std::move(interface),
                                            std::move(bound), runs_.emplace_back(0));
  }
  std::string description() const override { return client_.description(); }
  std::vector<int64_t> runs() const override { return {runs_.begin(), runs_.end()}; }

 private:
  Compiled compile(std::string_view artifact) {
    if (format_ != PjrtFormat::mlir) {
      try {
        return client_.compile("hlo", artifact, 1);
      } catch (const Error& error) {
        const bool unknown = std::string_view(error.what()).find(" format") != std::string::npos;
        if (format_ == PjrtFormat::hlo || !unknown) throw;
      }
      format_ = PjrtFormat::mlir;
    }
    return client_.compile("mlir", emit_stablehlo(import_hlo(artifact, "artifact")), 1);
  }

  const Client client_;  // outlives the buffers below
  PjrtFormat format_;
  Residents weights_, states_;
  std::deque<int64_t> runs_;
};

}  // namespace

std::unique_ptr<PjrtDevice> open_pjrt(const PjrtOptions& options) {
  return std::make_unique<OpenedPjrt>(options);
}

}  // namespace ng
