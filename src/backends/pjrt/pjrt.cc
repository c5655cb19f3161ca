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
  if (compiled.memory && compiled.memory->aliases != 0 && compiled.memory->aliases < bytes) {
    differ(fmt::format("the states that change in place are {} bytes, it finds {}", bytes,
                       compiled.memory->aliases));
  }
}

class PjrtExecutable : public Executable {
 public:
  PjrtExecutable(const Client& client, Compiled compiled, ModuleInterface interface,
                 std::vector<Bound> bound, int64_t& runs)
      : client_(client),
        compiled_(std::move(compiled)),
        interface_(std::move(interface)),
        bound_(std::move(bound)),
        ports_(caller_ports(interface_, bound_[0].held())),
        outputs_(of_ranks(ports_.outputs, std::ssize(bound_))),
        runs_(runs) {}
  const std::vector<Port>& inputs() const override { return ports_.inputs; }
  const std::vector<Port>& outputs() const override { return outputs_; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    check_arguments(inputs, ports_.inputs);
    check_arguments(outputs, outputs_);
    std::vector<std::vector<Handle>> uploaded(bound_.size());
    for (size_t rank = 0; rank < bound_.size(); ++rank) {
      for (const Argument& input : inputs) {
        NG_CHECK(input.data != nullptr, "an input without bytes");
        uploaded[rank].push_back(client_.upload(input.type, input.data, rank));
      }
    }
    const std::vector<std::vector<Handle>> results = execute(uploaded);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      const Port& port = ports_.outputs[i];
      const auto bytes = static_cast<size_t>(byte_count(port.type));
      for (size_t rank = 0; rank < results.size(); ++rank) {
        client_.download(results[rank][ports_.output_numbers[i]], port.type,
                         outputs[i].data + rank * bytes);
      }
    }
    ++runs_;
  }

 private:
  static void check_there(const Resident& state, const Port& port) {
    if (state.buffer != nullptr) return;
    throw Error(Error::Kind::Device,
                fmt::format("state '{}' was lost when a run failed", shown(port.name)));
  }

  // Of one rank in the order of parameters; what runs use up goes from the states.
  std::vector<void*> arguments(const Bound& bound, const std::vector<Handle>& uploaded,
                               std::vector<Handle>& used_up) const {
    std::vector<void*> found;
    auto given = uploaded.begin();
    for (Resident* input : bound.inputs) {
      found.push_back(input != nullptr ? input->buffer.get() : (given++)->get());
    }
    for (Resident* state : bound.states) {
      found.push_back(state->buffer.get());
      used_up.push_back(std::move(state->buffer));
    }
    for (const Resident* weight : bound.weights) found.push_back(weight->buffer.get());
    return found;
  }

  // [rank][output]; states have their new buffers.
  std::vector<std::vector<Handle>> execute(const std::vector<std::vector<Handle>>& uploaded) {
    for (const Bound& bound : bound_) {
      for (size_t i = 0; i < bound.inputs.size(); ++i) {
        if (bound.inputs[i] != nullptr) check_there(*bound.inputs[i], interface_.inputs[i]);
      }
      for (size_t i = 0; i < bound.states.size(); ++i) {
        check_there(*bound.states[i], interface_.states[i]);
      }
    }
    std::vector<std::vector<void*>> all;
    std::vector<Handle> used_up;
    for (size_t rank = 0; rank < bound_.size(); ++rank) {
      all.push_back(arguments(bound_[rank], uploaded[rank], used_up));
    }
    std::vector<std::vector<Handle>> results = client_.execute(compiled_, all);
    for (size_t rank = 0; rank < bound_.size(); ++rank) {
      for (const auto& alias : interface_.aliases) {
        const size_t state = alias.parameter - interface_.inputs.size();
        bound_[rank].states.at(state)->buffer = std::move(results[rank].at(alias.output));
      }
      for (const auto& [output, input] : interface_.replaced) {  // the one that was read goes
        bound_[rank].inputs.at(input)->buffer = std::move(results[rank].at(output));
      }
    }
    return results;
  }

  const Client& client_;
  const Compiled compiled_;
  const ModuleInterface interface_;
  const std::vector<Bound> bound_;  // by rank
  const CallerPorts ports_;         // of one rank, and
  const std::vector<Port> outputs_;
  int64_t& runs_;
};

class OpenedPjrt : public PjrtDevice {
 public:
  explicit OpenedPjrt(const PjrtOptions& options)
      : client_(options.plugin, options.ranks),
        format_(options.format),
        residents_(static_cast<size_t>(options.ranks)) {}

  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    ModuleInterface interface = read_interface(artifact, "the module");
    check_ranks(interface, ranks());
    Compiled compiled = compile(artifact);
    check_compiled(compiled, interface);
    std::vector<Bound> bound;
    for (size_t rank = 0; rank < residents_.size(); ++rank) {
      const auto upload = [&](const Tensor& tensor, const auto&) {
        return client_.upload(tensor.type, tensor.data.data(), rank);
      };
      const WeightSource own = weights_of(weights, int64_t(rank), ranks());
      bound.push_back(residents_[rank].bind(interface, own, upload));
    }
    return std::make_unique<PjrtExecutable>(client_, std::move(compiled), std::move(interface),
                                            std::move(bound), runs_.emplace_back(0));
  }
  Tensor state(const std::string& name) override {
    std::vector<Tensor> parts;
    for (const PjrtResidents& residents : residents_) {
      const Resident& held = residents.state(name);
      std::vector<std::byte> bytes(static_cast<size_t>(byte_count(held.type)));
      client_.download(held.buffer, held.type, bytes.data());
      parts.push_back(Tensor::own(held.type, std::move(bytes)));
    }
    return of_ranks(parts);
  }
  std::string description() const override { return client_.description(); }
  std::vector<int64_t> runs() const override { return {runs_.begin(), runs_.end()}; }

 private:
  int ranks() const { return static_cast<int>(residents_.size()); }
  Compiled compile(std::string_view artifact) {
    if (format_ != PjrtFormat::mlir) {
      try {
        return client_.compile("hlo", artifact, ranks());
      } catch (const Error& error) {
        const bool unknown = std::string_view(error.what()).find(" format") != std::string::npos;
        if (format_ == PjrtFormat::hlo || !unknown) throw;
      }
      format_ = PjrtFormat::mlir;
    }
    return client_.compile("mlir", emit_stablehlo(import_hlo(artifact, "the module")), ranks());
  }

  const Client client_;  // outlives the buffers below
  PjrtFormat format_;
  std::vector<PjrtResidents> residents_;  // by rank
  std::deque<int64_t> runs_;
};

}  // namespace

std::unique_ptr<PjrtDevice> open_pjrt(const PjrtOptions& options) {
  return std::make_unique<OpenedPjrt>(options);
}

}  // namespace ng
