// What a backend is: a target's wishes as data, and devices that load graphs and run them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tensor/tensor.h"

namespace ng {

// What a device wants of the compiler; written into the manifest by name.
struct Target {
  std::string_view name;
  bool fused;           // the fuse pass runs
  bool packed;          // matrices are laid out in panels
  bool fixed = false;   // shapes are: it gets modules (docs/neuron.md), not graphs
  bool neuron = false;  // which neuronx-cc compiles, each to a NEFF
};

// Bytes bound to one input or output for one run. `type` is exact: a counted dimension has the size
// used in this run. data is null for an output nobody wants.
struct Argument {
  Type type;
  std::byte* data = nullptr;
};

// The bytes as they are now.
inline Tensor copy_of(const Argument& argument) {
  const auto size = static_cast<size_t>(byte_count(argument.type));
  return Tensor::own(argument.type, {argument.data, argument.data + size});
}

// An input or output of a loaded artifact; counted dimensions take their size in each run.
struct Port {
  std::string name;
  Type type;
};

// A run failed and its device can be used on: states are zeros, what follows may succeed. After any
// other error of the kind Device it is of no more use.
struct Fault : Error {
  explicit Fault(const std::string& message) : Error(Kind::Device, message) {}
};

// A loaded artifact. run() is for one caller at a time.
class Executable {
 public:
  virtual ~Executable() = default;
  virtual const std::vector<Port>& inputs() const = 0;
  virtual const std::vector<Port>& outputs() const = 0;
  // In the order of inputs() and outputs(). A state (an input and an output of one name) is one
  // memory, changed in place. Types that do not fit: User. Indices inside s32 inputs that point
  // outside (ids, histories, lengths) are the caller's promise, except write_rows, which skips
  // them.
  virtual void run(std::span<const Argument> inputs, std::span<const Argument> outputs) = 0;
};

using WeightSource = std::function<Tensor(const std::string& name)>;

class Device {
 public:
  virtual ~Device() = default;
  // `artifact` is what the compiler made for this target: for both of these backends, graph text.
  // Weights stay where they are: the tensors that `weights` gives are kept. Of several ranks each
  // asks for rank_name() (tensor/ranks.h) of what it needs.
  virtual std::unique_ptr<Executable> load(std::string_view artifact,
                                           const WeightSource& weights) = 0;
  virtual std::string description() const = 0;  // "cpu (avx512, 2 threads)"
  virtual int replicas() const { return 1; }    // like this one, itself among them
  // A state that the device itself keeps, as it is now; nothing where callers bind the states.
  virtual Tensor state(const std::string& /*name*/) { return {}; }
};

// What a target's own compiler made of a module, by the module's name.
using ProgramSource = std::function<std::span<const std::byte>(const std::string& module)>;

struct DeviceOptions {
  int threads = 0;              // 0: available_threads()
  std::string library = {};     // of pjrt: the plugin's path; of Neuron: libnrt's, or ""
  int core = 0;                 // of Neuron: which replica
  int ranks = 1;                // devices that run a module together: of pjrt and Neuron
  bool emulated = false;        // of Neuron: the stand-in beside the program
  ProgramSource programs = {};  // of Neuron: the NEFFs
};

struct Backend {
  Target target;
  std::unique_ptr<Device> (*open)(const DeviceOptions&);
};
std::span<const Backend> backends();
// Unknown names: User, listing those there are.
const Backend& find_backend(std::string_view name);

}  // namespace ng
