// How is libnrt, AWS Neuron's runtime, opened and called?
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backends/neuron/nrt_abi.h"
#include "backends/neuron/version.h"

namespace ng::nrt {

class Runtime;

// Something of the runtime's, given back when it goes. Its runtime outlives it.
enum class Kind : uint8_t { model, buffer, set };
struct Release {
  const Runtime* runtime = nullptr;
  Kind kind = Kind::buffer;
  void operator()(void* object) const noexcept;
};
using Handle = std::unique_ptr<void, Release>;

struct NamedTensor {
  std::string name;
  bool is_input = false;
  uint64_t bytes = 0;
};

// The library, as far as it can be asked without taking a core.
struct Found {
  std::string path;
  std::optional<NeuronVersion> version;
  std::optional<uint32_t> cores;  // that this process sees
};
// Missing, or no libnrt: Device. `library` as below.
Found find_runtime(const std::string& library);

struct Library;

// Which part of a model a core runs: programs of several ranks run at once, each on its own core.
struct Rank {
  int number = 0, of = 1;
};

// One of the visible cores of a library, which is initialised with the first of its Runtimes and
// closed with the last; they are made and go one at a time. Every call that does not succeed
// follows its status's policy (nrt_status.h) and is then a Device error; after one that lost the
// core every other is refused. For one thread.
class Runtime {
 public:
  // `library`: a path; empty: $NEUROGLOT_LIBNRT, else the loader's libnrt.so.1, else the one below
  // /opt/aws/neuron. Missing, or it lacks a function that we need, or that core: Device.
  // Of several ranks: nor one that loads such programs.
  explicit Runtime(const std::string& library, int core = 0, Rank rank = {});
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const std::optional<NeuronVersion>& version() const;
  int cores() const;  // that this process sees
  bool lost() const { return !lost_.empty(); }

  Handle load(std::span<const std::byte> neff, const std::string& what);  // `what`: for errors
  std::vector<NamedTensor> tensors_of(const Handle& model);

  Handle allocate(uint64_t bytes, const std::string& name);
  void write(const Handle& buffer, std::span<const std::byte> bytes);
  void read(const Handle& buffer, std::span<std::byte> bytes);

  Handle make_set();
  void add(const Handle& set, const std::string& name, const Handle& buffer);
  void execute(const Handle& model, const Handle& inputs, const Handle& outputs);

 private:
  friend struct Release;
  template <class F, class... Args>
  void call(std::string_view name, F function, Args... args);
  std::string memory_used() const;

  const std::shared_ptr<Library> library_;
  const int32_t core_;
  const Rank rank_;
  std::string lost_;  // by which error; empty: it is there
};

}  // namespace ng::nrt
