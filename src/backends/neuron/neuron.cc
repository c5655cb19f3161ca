#include "backends/neuron/neuron.h"

#include <charconv>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>

#include "backends/neuron/neff.h"
#include "backends/neuron/nrt.h"
#include "backends/xla/legal.h"
#include "backends/xla/residents.h"
#include "base/file.h"
#include "base/thread_pool.h"

namespace ng {
namespace {

using nrt::Handle;
using nrt::Runtime;
using NeuronResidents = Residents<Handle>;

std::string name_of(const Port& port, Role role) { return module_name({role, port.name}); }

// Physical cores of a logical one, here.
uint32_t logical_core(const NeuronTarget& target) {
  const char* text = std::getenv("NEURON_LOGICAL_NC_CONFIG");
  if (target.largest_lnc == 1 || text == nullptr) return static_cast<uint32_t>(target.standard_lnc);
  return std::string_view(text) == "1" ? 1 : 2;
}

// Does the NEFF have the tensors of the module that it is said to be made of?
void check_tensors(const std::vector<nrt::NamedTensor>& found, const ModuleInterface& interface) {
  const auto differ = [&](const std::string& message) {
    throw Error(Error::Kind::Device,
                fmt::format("the NEFF of {} is not of that module: {}: compile it again",
                            shown(interface.name), message));
  };
  std::map<std::pair<bool, std::string>, uint64_t> sizes;  // by usage and name
  for (const nrt::NamedTensor& tensor : found) sizes[{tensor.is_input, tensor.name}] = tensor.bytes;
  size_t expected = 0;
  const auto expect = [&](bool is_input, const std::vector<Port>& ports, Role role) {
    expected += ports.size();
    for (const Port& port : ports) {
      const std::string name = is_input ? name_of(port, role) : port.name;
      const auto size = sizes.find({is_input, name});
      const char* kind = is_input ? "input" : "output";
      if (size == sizes.end()) differ(fmt::format("it has no {} '{}'", kind, shown(name)));
      if (size->second == static_cast<uint64_t>(byte_count(port.type))) continue;
      differ(fmt::format("{} '{}' has {} bytes, {} has {}", kind, shown(name), size->second,
                         to_string(port.type), byte_count(port.type)));
    }
  };
  expect(true, interface.inputs, Role::input);
  expect(true, interface.states, Role::state);
  expect(true, interface.weights, Role::weight);
  expect(false, interface.outputs, Role::input);
  if (sizes.size() != expected) {
    differ(fmt::format("it has {} tensors, not {}", sizes.size(), expected));
  }
}

class NeuronExecutable : public Executable {
 public:
  NeuronExecutable(Runtime& runtime, Handle model, const ModuleInterface& interface,
                   const NeuronResidents::Bound& bound)
      : runtime_(runtime),
        ports_(caller_ports(interface, bound.held())),
        in_(runtime.make_set()),
        out_(runtime.make_set()),
        model_(std::move(model)) {
    for (size_t i = 0; i < interface.inputs.size(); ++i) {
      const std::string name = name_of(interface.inputs[i], Role::input);
      if (bound.inputs[i] == nullptr) {
        add_own(in_, name, interface.inputs[i].type, inputs_);
      } else {
        add(in_, name, *bound.inputs[i], &Resident::buffer);
      }
    }
    for (size_t i = 0; i < interface.states.size(); ++i) {  // in place: one buffer at both ends
      add(in_, name_of(interface.states[i], Role::state), *bound.states[i], &Resident::buffer);
      add(out_, interface.states[i].name, *bound.states[i], &Resident::buffer);
    }
    for (const auto& [output, input] : interface.replaced) {
      add(out_, interface.outputs[output].name, *bound.inputs[input], &Resident::spare);
      replaced_.push_back(bound.inputs[input]);
    }
    for (size_t i = 0; i < interface.weights.size(); ++i) {
      runtime_.add(in_, name_of(interface.weights[i], Role::weight), bound.weights[i]->buffer);
    }
    for (const Port& port : ports_.outputs) add_own(out_, port.name, port.type, outputs_);
  }
  const std::vector<Port>& inputs() const override { return ports_.inputs; }
  const std::vector<Port>& outputs() const override { return ports_.outputs; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    check_arguments(inputs, ports_.inputs);
    check_arguments(outputs, ports_.outputs);
    try {
      execute(inputs, outputs);
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::Device || runtime_.lost()) throw;
      for (const End& end : ends_) {  // a NaN in a state would reach whatever reads rows beside it
        const std::vector<std::byte> zeros(static_cast<size_t>(byte_count(end.state->type)));
        runtime_.write(end.state->*end.buffer, zeros);
      }
      throw Fault(error.what());
    }
  }

 private:
  using Resident = NeuronResidents::Resident;
  struct End {
    const Handle& set;
    std::string name;
    Resident* state;
    Handle Resident::*buffer;
  };

  void execute(std::span<const Argument> inputs, std::span<const Argument> outputs) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      NG_CHECK(inputs[i].data != nullptr, "an input without bytes");
      runtime_.write(inputs_[i], bytes_of(inputs[i]));
    }
    for (const End& end : ends_) {  // this module or another may have swapped its buffers
      if (end.state->spare) runtime_.add(end.set, end.name, end.state->*end.buffer);
    }
    runtime_.execute(model_, in_, out_);
    for (Resident* state : replaced_) std::swap(state->buffer, state->spare);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data != nullptr) runtime_.read(outputs_[i], bytes_of(outputs[i]));
    }
  }

  static std::span<std::byte> bytes_of(const Argument& argument) {
    return {argument.data, static_cast<size_t>(byte_count(argument.type))};
  }
  void add_own(const Handle& set, const std::string& name, const Type& type,
               std::vector<Handle>& own) {
    own.push_back(runtime_.allocate(static_cast<uint64_t>(byte_count(type)), name));
    runtime_.add(set, name, own.back());
  }

  void add(const Handle& set, const std::string& name, Resident& state, Handle Resident::*buffer) {
    ends_.push_back({set, name, &state, buffer});
    runtime_.add(set, name, state.*buffer);
  }

  Runtime& runtime_;
  const CallerPorts ports_;
  std::vector<End> ends_;  // of states
  std::vector<Resident*> replaced_;
  std::vector<Handle> inputs_, outputs_;  // of the caller's ports; they go after the model that
  const Handle in_, out_, model_;         // uses them, and after the sets that hold them
};

class OpenedNeuron : public Device {
 public:
  OpenedNeuron(const NeuronTarget& target, const DeviceOptions& options, nrt::Rank rank)
      : target_(target),
        programs_(options.programs),
        emulated_(options.emulated),
        ranks_(rank.of),
        runtime_(options.emulated && options.library.empty() ? emulated_library() : options.library,
                 options.core * rank.of + rank.number, rank) {}
  int replicas() const override { return runtime_.cores(); }

  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    const ModuleInterface interface = read_interface(artifact, "artifact");
    check_ranks(interface, ranks_);
    const std::span<const std::byte> neff = programs_(interface.name);
    const std::string what = interface.name + ".neff";
    const NeffHeader header = read_neff_header(neff, what);
    check_neff_runs(header, {runtime_.version(), logical_core(target_), emulated_}, what);
    Handle model =
        runtime_.load(neff, fmt::format("{} (by neuronx-cc {}) on {}", what,
                                        shown(header.compiler_build, 128), description()));
    check_tensors(runtime_.tensors_of(model), interface);
    const auto upload = [&](const Tensor& tensor, const std::string& name) {
      Handle buffer = runtime_.allocate(tensor.data.size(), name);
      runtime_.write(buffer, tensor.data);
      return buffer;
    };
    const NeuronResidents::Bound bound = residents_.bind(interface, weights, upload);
    for (const auto& [output, input] : interface.replaced) {
      const Port& port = interface.outputs[output];
      Handle& spare = bound.inputs[input]->spare;
      if (!spare) spare = runtime_.allocate(uint64_t(byte_count(port.type)), port.name);
    }
    return std::make_unique<NeuronExecutable>(runtime_, std::move(model), interface, bound);
  }
  Tensor state(const std::string& name) override {
    const NeuronResidents::Resident& held = residents_.state(name);
    std::vector<std::byte> bytes(static_cast<size_t>(byte_count(held.type)));
    runtime_.read(held.buffer, bytes);
    return Tensor::own(held.type, std::move(bytes));
  }
  std::string description() const override {
    return fmt::format("{} {} (libnrt {})", emulated_ ? "emulated" : "neuron", target_.name,
                       runtime_.version() ? runtime_.version()->text : "of an unknown version");
  }

 private:
  const NeuronTarget& target_;
  const ProgramSource programs_;
  const bool emulated_;
  const int ranks_;
  Runtime runtime_;  // outlives what is on its device
  NeuronResidents residents_;
};

// Runs body(rank) for all ranks at once, since they wait for each other; the first error of all.
void at_once(ThreadPool& threads, const std::function<void(size_t rank)>& body) {
  std::mutex mutex;
  std::exception_ptr first;
  threads.run(static_cast<size_t>(threads.size()), [&](size_t rank) {
    try {
      body(rank);
    } catch (...) {
      const std::lock_guard hold(mutex);
      if (!first) first = std::current_exception();
    }
  });
  if (first) std::rethrow_exception(first);
}

// The same module on a core for each rank; its outputs one after the other.
class RanksExecutable : public Executable {
 public:
  RanksExecutable(std::vector<std::unique_ptr<Executable>> ranks, ThreadPool& threads)
      : ranks_(std::move(ranks)),
        threads_(threads),
        outputs_(of_ranks(ranks_[0]->outputs(), std::ssize(ranks_))) {}
  const std::vector<Port>& inputs() const override { return ranks_[0]->inputs(); }
  const std::vector<Port>& outputs() const override { return outputs_; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    check_arguments(outputs, outputs_);
    at_once(threads_, [&](size_t rank) {
      std::vector<Argument> own;
      for (size_t i = 0; i < outputs.size(); ++i) {
        const Type& type = ranks_[rank]->outputs()[i].type;
        const size_t begin = rank * static_cast<size_t>(byte_count(type));
        own.push_back({type, outputs[i].data == nullptr ? nullptr : outputs[i].data + begin});
      }
      ranks_[rank]->run(inputs, own);
    });
  }

 private:
  const std::vector<std::unique_ptr<Executable>> ranks_;
  ThreadPool& threads_;
  const std::vector<Port> outputs_;
};

// Cores that run a module together, one a rank.
class RanksDevice : public Device {
 public:
  RanksDevice(const NeuronTarget& target, const DeviceOptions& options) : threads_(options.ranks) {
    for (int rank = 0; rank < options.ranks; ++rank) {
      ranks_.push_back(
          std::make_unique<OpenedNeuron>(target, options, nrt::Rank{rank, options.ranks}));
    }
  }
  int replicas() const override { return ranks_[0]->replicas() / threads_.size(); }

  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    std::vector<std::unique_ptr<Executable>> loaded(ranks_.size());
    at_once(threads_, [&](size_t rank) {
      loaded[rank] =
          ranks_[rank]->load(artifact, weights_of(weights, int64_t(rank), std::ssize(ranks_)));
    });
    return std::make_unique<RanksExecutable>(std::move(loaded), threads_);
  }
  Tensor state(const std::string& name) override {
    std::vector<Tensor> parts;
    for (const auto& rank : ranks_) parts.push_back(rank->state(name));
    return of_ranks(parts);
  }
  std::string description() const override {
    return fmt::format("{}, {} cores together", ranks_[0]->description(), threads_.size());
  }

 private:
  std::vector<std::unique_ptr<OpenedNeuron>> ranks_;
  ThreadPool threads_;
};

}  // namespace

std::string emulated_library() {
  std::error_code unreadable;
  const Path program = std::filesystem::read_symlink("/proc/self/exe", unreadable);
  const Path library = program.parent_path() / "libemulated-nrt.so";
  if (!unreadable && std::filesystem::exists(library, unreadable)) return library.string();
  throw Error(Error::Kind::Device,
              fmt::format("--device emulated: {} is not there: build it (cmake --build --preset "
                          "release --target emulated-nrt) and keep it beside the program",
                          library.string()));
}

std::unique_ptr<Device> open_neuron(const NeuronTarget& target, const DeviceOptions& options) {
  NG_CHECK(options.programs, "no NEFFs");
  if (options.ranks > 1) return std::make_unique<RanksDevice>(target, options);
  return std::make_unique<OpenedNeuron>(target, options, nrt::Rank{});
}

}  // namespace ng
