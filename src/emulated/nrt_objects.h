// What does the emulated runtime hold, and how is it made to fail? For nrt.cc alone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backends/neuron/nrt_abi.h"
#include "ir/graph.h"
#include "tensor/tensor.h"

namespace ng::emulated {

struct Buffer {
  std::vector<std::byte> bytes;
  int32_t core = 0;
};
struct Set {
  std::map<std::string, Buffer*> buffers;
};
// A parameter or an output of a program, by its name in the NEFF.
struct End {
  std::string name;
  Type type;
};
struct Program {
  Graph graph{""};
  std::vector<End> inputs, outputs;
  std::map<std::string, std::string> states;  // the name of the output by that of the input
  std::map<uint32_t, std::string> input_of;   // by node
  size_t bytes = 0, hash = 0;                 // of the NEFF
  int32_t core = 0;
  uint32_t rank = 0, ranks = 1;
};
struct Infos {
  std::vector<std::byte> bytes;
  std::vector<std::vector<uint32_t>> shapes;
};

// Objects of one kind, by address: what was never made, or is gone, is not found.
template <class T>
class Pool {
 public:
  T* add(T object) {
    auto owned = std::make_unique<T>(std::move(object));
    T* address = owned.get();
    objects_.emplace(address, std::move(owned));
    return address;
  }
  T* find(const void* address) const {
    const auto found = objects_.find(address);
    return found == objects_.end() ? nullptr : found->second.get();
  }
  bool remove(const void* address) { return objects_.erase(address) > 0; }
  size_t size() const { return objects_.size(); }
  void clear() { objects_.clear(); }

 private:
  std::map<const void*, std::unique_ptr<T>> objects_;
};

// A program with its buffers, all of them there.
struct Bound {
  const Program* program = nullptr;
  const std::map<std::string, Buffer*>*inputs = nullptr, *outputs = nullptr;
};
// Cores of several ranks: who waits, in which round, and how the last one ended.
struct Meeting {
  std::map<uint32_t, Bound> waiting;  // by rank
  uint64_t round = 0;
  nrt::Status status = nrt::kSuccess;
};

struct Runtime {
  std::mutex mutex;
  enum class State { fresh, open, closed } state = State::fresh;
  Pool<Buffer> buffers;
  Pool<Set> sets;
  Pool<Program> programs;
  std::map<const void*, Infos> infos;     // by the address of their bytes
  std::set<const void*> kept;             // that an injected failure kept from being given back
  std::map<std::string, uint64_t> calls;  // by function
  std::map<int32_t, Meeting> meetings;    // by the core of rank 0
  std::condition_variable_any met;
  std::map<int32_t, uint64_t> used;  // bytes of buffers and programs, by core
  uint64_t misuse = 0;  // objects given back twice, never made, or left when it was closed

  size_t live() const { return buffers.size() + sets.size() + programs.size() + infos.size(); }
};
Runtime& runtime();

// What EMULATED_NRT says of this call of `function`, its `count`th: it waits, then it has that
// status; none: it goes on. A fault that is not understood: User.
struct Injected {
  std::chrono::milliseconds wait{0};
  std::optional<nrt::Status> status;
};
Injected injected(const std::string& function, uint64_t count);
uint64_t memory_limit();  // of a core: EMULATED_NRT_MEMORY
int64_t visible_cores();  // EMULATED_NRT_CORES

// Runs a program on all its ranks. What a device would fault at has its status: an index that
// leaves its table, a NaN, with which the outputs are written all the same.
nrt::Status run(const std::vector<Bound>& ranks);

// Runs it when the last rank is here; the others wait, as long as NEURON_RT_EXEC_TIMEOUT says (30
// s). The caller holds the runtime's mutex.
nrt::Status run_together(Runtime& runtime, const Bound& bound);

// Of a pseudo-NEFF; else a User error.
Program read_program(std::span<const std::byte> neff);

}  // namespace ng::emulated
