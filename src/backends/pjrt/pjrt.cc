#include "backends/pjrt/pjrt.h"

#include <deque>

#include "backends/pjrt/client.h"
#include "backends/xla/emit_stablehlo.h"
#include "backends/xla/import_hlo.h"
#include "backends/xla/residents.h"
#include "base/error.h"

namespace ng {
namespace {

using pjrt::Client;
using pjrt::Compiled;
using pjrt::Handle;

// A state's buffer is gone while a run uses it up, and for good if that run fails.
using PjrtResidents = Residents<Handle>;
using Resident = PjrtResidents::Resident;
using Bound = PjrtResidents::Bound;

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

class PjrtExecutable : public Executable {
 public:
  PjrtExecutable(const Client& client, Compiled compiled, ModuleInterface interface, Bound bound,
                 int64_t& runs)
      : client_(client),
        compiled_(std::move(compiled)),
        interface_(std::move(interface)),
        bound_(std::move(bound)),
        ports_(caller_ports(interface_, bound_.held())),
        runs_(runs) {}
  const std::vector<Port>& inputs() const override { return ports_.inputs; }
  const std::vector<Port>& outputs() const override { return ports_.outputs; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    check_arguments(inputs, ports_.inputs);
    check_arguments(outputs, ports_.outputs);
    std::vector<Handle> uploaded;
    for (const Argument& input : inputs) {
      NG_CHECK(input.data != nullptr, "an input without bytes");
      uploaded.push_back(client_.upload(input.type, input.data, 0));
    }
    const std::vector<Handle> results = execute(uploaded);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      client_.download(results[ports_.output_numbers[i]], outputs[i].type, outputs[i].data);
    }
    ++runs_;
  }

 private:
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
    for (const auto& [output, input] : interface_.replaced) {  // the one that was read goes
      bound_.inputs.at(input)->buffer = std::move(results.at(output));
    }
    return results;
  }

  const Client& client_;
  const Compiled compiled_;
  const ModuleInterface interface_;
  const Bound bound_;
  const CallerPorts ports_;
  int64_t& runs_;
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
    Bound bound = residents_.bind(interface, weights, [&](const Tensor& tensor, const auto&) {
      return client_.upload(tensor.type, tensor.data.data(), 0);
    });
    return std::make_unique<PjrtExecutable>(client_, std::move(compiled), std::move(interface),
                                            std::move(bound), runs_.emplace_back(0));
  }
  Tensor state(const std::string& name) override {
    const Resident& held = residents_.state(name);
    std::vector<std::byte> bytes(static_cast<size_t>(byte_count(held.type)));
    client_.download(held.buffer, held.type, bytes.data());
    return Tensor::own(held.type, std::move(bytes));
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
  PjrtResidents residents_;
  std::deque<int64_t> runs_;
};

}  // namespace

std::unique_ptr<PjrtDevice> open_pjrt(const PjrtOptions& options) {
  return std::make_unique<OpenedPjrt>(options);
}

}  // namespace ng
