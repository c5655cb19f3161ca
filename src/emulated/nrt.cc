// A stand-in for AWS's libnrt: the same C interface, over pseudo-NEFFs (pseudo_neff.h) that the
// interpreter runs. It keeps to what is published of the real one: handles, names, sizes, bounds,
// states in place; what breaks a rule has the status that the real one is said to give.
//
// For tests and rehearsals, by the environment:
//   EMULATED_NRT         FUNCTION@N=STATUS,…: the N-th call of FUNCTION gives STATUS; @N+= from the
//                        N-th on; FUNCTION@N=Tms waits.
//   EMULATED_NRT_MEMORY  bytes of a core (16 GiB)
//   EMULATED_NRT_CORES   cores that are visible (1)
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "base/error.h"
#include "emulated/nrt_objects.h"
#include "ir/interpret.h"

#define EMULATED extern "C" __attribute__((visibility("default")))

namespace ng::emulated {

Runtime& runtime() {
  static Runtime only;
  return only;
}

namespace {

using nrt::Status;

bool needs_open(std::string_view function) {
  return function != "nrt_init" && function != "nrt_get_version" &&
         function != "nrt_get_visible_vnc_count";
}

// Lets other threads in for as long as it lives.
struct Unlocked {
  explicit Unlocked(std::mutex& held) : mutex(held) { mutex.unlock(); }
  ~Unlocked() { mutex.lock(); }
  std::mutex& mutex;
};

// What every function that has a status does before and around its own work. Calls are counted, and
// objects looked up, by one thread at a time; a call that is made to wait keeps nobody else
// waiting.
template <class F>
Status enter(const char* function, const F& body) {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  try {
    const Injected fault = injected(function, ++r.calls[function]);
    if (fault.wait.count() > 0) {
      const Unlocked others(r.mutex);
      std::this_thread::sleep_for(fault.wait);
    }
    if (fault.status) return *fault.status;
    if (needs_open(function) && r.state != Runtime::State::open) {
      return r.state == Runtime::State::fresh ? nrt::kUninitialized : nrt::kClosed;
    }
    return body(r);
  } catch (const std::bad_alloc&) {
    return nrt::kHostMemory;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "emulated libnrt: %s: %s\n", function, error.what());
    return nrt::kInvalid;
  }
}

// An object whose return failed on purpose stays, through no fault of its owner's.
template <class F>
Status give_back(const char* function, const void* object, const F& body) {
  const Status status = enter(function, body);
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  if (status == nrt::kSuccess) {
    r.kept.erase(object);
  } else if (r.programs.find(object) != nullptr || r.infos.contains(object)) {
    r.kept.insert(object);
  } else {
    ++r.misuse;
  }
  return status;
}

constexpr std::byte kGarbage{0xA5};  // in new buffers: nothing is zero by itself

bool is_core(int64_t core) { return core >= 0 && core < visible_cores(); }

bool takes(Runtime& r, int32_t core, uint64_t bytes) {
  uint64_t& used = r.used[core];
  if (bytes > memory_limit() || used > memory_limit() - bytes) return false;
  used += bytes;
  return true;
}

uint32_t dtype_of(DType dtype) {
  if (dtype == DType::s32) return nrt::kS32;
  return dtype == DType::bf16 ? nrt::kBf16 : nrt::kF32;
}

// Every end has a buffer of its size, on the core.
bool fits(const std::vector<End>& ends, const Set& set, int32_t core, const Runtime& r) {
  return std::all_of(ends.begin(), ends.end(), [&](const End& end) {
    const auto found = set.buffers.find(end.name);
    return found != set.buffers.end() && r.buffers.find(found->second) != nullptr &&
           found->second->core == core &&
           found->second->bytes.size() == static_cast<size_t>(byte_count(end.type));
  });
}

// A state's two ends are one buffer; any other output shares its buffer with nothing.
bool aliases_as_compiled(const Program& program, const Set& in, const Set& out) {
  std::multiset<const Buffer*> bound;
  for (const End& end : program.inputs) bound.insert(in.buffers.at(end.name));
  for (const End& end : program.outputs) bound.insert(out.buffers.at(end.name));
  for (const auto& [input, output] : program.states) {
    const Buffer* state = in.buffers.at(input);
    if (out.buffers.at(output) != state || bound.count(state) != 2) return false;
  }
  return std::all_of(program.outputs.begin(), program.outputs.end(), [&](const End& end) {
    const bool is_state = std::any_of(program.states.begin(), program.states.end(),
                                      [&](const auto& state) { return state.second == end.name; });
    return is_state || bound.count(out.buffers.at(end.name)) == 1;
  });
}

struct Place {
  int32_t core;
  uint32_t rank, ranks;
};

Status load(Runtime& r, std::span<const std::byte> neff, const Place& place, nrt::Model** model) {
  if (neff.data() == nullptr || model == nullptr || !is_core(place.core)) return nrt::kInvalid;
  std::optional<Program> program;
  try {
    program = read_program(neff);
  } catch (const Error& error) {
    std::fprintf(stderr, "emulated libnrt: nrt_load: %s\n", error.what());
    return nrt::kUnsupportedNeff;
  }
  if (ranks_of(program->graph) != place.ranks) return nrt::kInvalid;
  program->core = place.core;
  program->rank = place.rank;
  program->ranks = place.ranks;
  if (!takes(r, place.core, program->bytes)) return nrt::kResource;
  *model = reinterpret_cast<nrt::Model*>(r.programs.add(std::move(*program)));
  return nrt::kSuccess;
}

bool inside(const Buffer& buffer, size_t offset, size_t size) {
  return offset <= buffer.bytes.size() && size <= buffer.bytes.size() - offset;
}

}  // namespace
}  // namespace ng::emulated

using namespace ng;            // NOLINT: what follows is C
using namespace ng::emulated;  // NOLINT
using nrt::Status;

EMULATED Status nrt_init(int32_t framework, const char*, const char*) {
  return enter("nrt_init", [&](Runtime& r) {
    if (framework != nrt::kNoFramework || r.state == Runtime::State::open) return nrt::kInvalid;
    r.state = Runtime::State::open;
    return nrt::kSuccess;
  });
}

EMULATED void nrt_close() {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  r.misuse += r.live() - r.kept.size() + (r.state == Runtime::State::open ? 0 : 1);
  r.state = Runtime::State::closed;
  r.programs.clear();
  r.sets.clear();
  r.buffers.clear();
  r.infos.clear();
  r.kept.clear();
  r.used.clear();
}

EMULATED Status nrt_get_version(nrt::Version* version, size_t size) {
  return enter("nrt_get_version", [&](Runtime&) {
    nrt::Version own = {2, 34, 10, 0, "emulated", ""};
    if (version == nullptr) return nrt::kInvalid;
    std::memcpy(version, &own, std::min(size, sizeof own));
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_get_visible_vnc_count(uint32_t* count) {
  return enter("nrt_get_visible_vnc_count", [&](Runtime&) {
    *count = static_cast<uint32_t>(visible_cores());
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_get_vnc_memory_stats(uint32_t core, nrt::MemoryStats* stats, size_t in,
                                         size_t* out) {
  return enter("nrt_get_vnc_memory_stats", [&](Runtime& r) {
    if (!is_core(core)) return nrt::kInvalid;
    const nrt::MemoryStats own = {r.used[static_cast<int32_t>(core)], memory_limit()};
    *out = std::min(in, sizeof own);
    std::memcpy(stats, &own, *out);
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_load(const void* neff, size_t size, int32_t core, int32_t, nrt::Model** model) {
  return enter("nrt_load", [&](Runtime& r) {
    core = std::max(core, 0);  // below: the first that is free
    return load(r, {static_cast<const std::byte*>(neff), size}, {core, 0, 1}, model);
  });
}

EMULATED Status nrt_load_collectives(const void* neff, size_t size, int32_t core, int32_t,
                                     uint32_t rank, uint32_t ranks, nrt::Model** model) {
  return enter("nrt_load_collectives", [&](Runtime& r) {
    if (std::getenv("NEURON_RT_ROOT_COMM_ID") == nullptr || rank >= ranks) return nrt::kInvalid;
    return load(r, {static_cast<const std::byte*>(neff), size}, {core, rank, ranks}, model);
  });
}

EMULATED Status nrt_unload(nrt::Model* model) {
  return give_back("nrt_unload", model, [&](Runtime& r) {
    const Program* program = r.programs.find(model);
    if (program == nullptr) return nrt::kInvalidHandle;
    r.used[program->core] -= program->bytes;
    r.programs.remove(model);
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_get_model_tensor_info(nrt::Model* model, nrt::TensorInfos** infos) {
  return enter("nrt_get_model_tensor_info", [&](Runtime& r) {
    const Program* program = r.programs.find(model);
    if (program == nullptr || infos == nullptr) return nrt::kInvalidHandle;
    const size_t count = program->inputs.size() + program->outputs.size();
    Infos made;
    made.bytes.resize(sizeof(nrt::TensorInfos) + count * sizeof(nrt::TensorInfo));
    reinterpret_cast<nrt::TensorInfos*>(made.bytes.data())->count = count;
    auto* info = reinterpret_cast<nrt::TensorInfo*>(made.bytes.data() + sizeof(nrt::TensorInfos));
    const auto add = [&](const End& end, int32_t usage) {
      end.name.copy(info->name, sizeof info->name - 1);
      info->usage = usage;
      info->size = static_cast<size_t>(byte_count(end.type));
      info->dtype = dtype_of(end.type.dtype);
      std::vector<uint32_t>& shape = made.shapes.emplace_back();
      for (const Dim& dim : end.type.shape) shape.push_back(static_cast<uint32_t>(dim.size));
      info->shape = shape.data();  // it stays where it is when `shape` moves
      info++->rank = static_cast<uint32_t>(shape.size());
    };
    for (const End& end : program->inputs) add(end, nrt::kInput);
    for (const End& end : program->outputs) add(end, nrt::kOutput);
    *infos = reinterpret_cast<nrt::TensorInfos*>(made.bytes.data());
    r.infos.emplace(*infos, std::move(made));
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_free_model_tensor_info(nrt::TensorInfos* infos) {
  return give_back("nrt_free_model_tensor_info", infos, [&](Runtime& r) {
    return r.infos.erase(infos) > 0 ? nrt::kSuccess : nrt::kInvalidHandle;
  });
}

EMULATED Status nrt_tensor_allocate(int32_t place, int32_t core, size_t size, const char*,
                                    nrt::Buffer** buffer) {
  return enter("nrt_tensor_allocate", [&](Runtime& r) {
    if (place != nrt::kOnDevice || !is_core(core) || size == 0 || buffer == nullptr)
      return nrt::kInvalid;
    if (!takes(r, core, size)) return nrt::kResource;
    *buffer = reinterpret_cast<nrt::Buffer*>(
        r.buffers.add({std::vector<std::byte>(size, kGarbage), core}));
    return nrt::kSuccess;
  });
}

EMULATED void nrt_tensor_free(nrt::Buffer** buffer) {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  const Buffer* held = buffer == nullptr ? nullptr : r.buffers.find(*buffer);
  if (held == nullptr) {
    ++r.misuse;
    return;
  }
  r.used[held->core] -= held->bytes.size();
  r.buffers.remove(*buffer);
  *buffer = nullptr;
}

EMULATED Status nrt_tensor_read(const nrt::Buffer* buffer, void* bytes, size_t offset,
                                size_t size) {
  return enter("nrt_tensor_read", [&](Runtime& r) {
    const Buffer* held = r.buffers.find(buffer);
    if (held == nullptr) return nrt::kInvalidHandle;
    if (bytes == nullptr || !inside(*held, offset, size)) return nrt::kInvalid;
    std::memcpy(bytes, held->bytes.data() + offset, size);
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_tensor_write(nrt::Buffer* buffer, const void* bytes, size_t offset,
                                 size_t size) {
  return enter("nrt_tensor_write", [&](Runtime& r) {
    Buffer* held = r.buffers.find(buffer);
    if (held == nullptr) return nrt::kInvalidHandle;
    if (bytes == nullptr || !inside(*held, offset, size)) return nrt::kInvalid;
    std::memcpy(held->bytes.data() + offset, bytes, size);
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_allocate_tensor_set(nrt::Set** set) {
  return enter("nrt_allocate_tensor_set", [&](Runtime& r) {
    if (set == nullptr) return nrt::kInvalid;
    *set = reinterpret_cast<nrt::Set*>(r.sets.add({}));
    return nrt::kSuccess;
  });
}

EMULATED void nrt_destroy_tensor_set(nrt::Set** set) {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  if (set == nullptr || !r.sets.remove(*set)) ++r.misuse;
}

EMULATED Status nrt_add_tensor_to_tensor_set(nrt::Set* set, const char* name, nrt::Buffer* buffer) {
  return enter("nrt_add_tensor_to_tensor_set", [&](Runtime& r) {
    Set* held = r.sets.find(set);
    Buffer* added = r.buffers.find(buffer);
    if (held == nullptr || added == nullptr) return nrt::kInvalidHandle;
    if (name == nullptr) return nrt::kInvalid;
    held->buffers[name] = added;
    return nrt::kSuccess;
  });
}

EMULATED Status nrt_execute(nrt::Model* model, const nrt::Set* inputs, nrt::Set* outputs) {
  return enter("nrt_execute", [&](Runtime& r) {
    const Program* program = r.programs.find(model);
    const Set *in = r.sets.find(inputs), *out = r.sets.find(outputs);
    if (program == nullptr || in == nullptr || out == nullptr) return nrt::kInvalidHandle;
    if (!fits(program->inputs, *in, program->core, r) ||
        !fits(program->outputs, *out, program->core, r))
      return nrt::kBadInput;
    if (!aliases_as_compiled(*program, *in, *out)) return nrt::kInvalid;
    const Bound bound = {program, &in->buffers, &out->buffers};
    if (program->ranks > 1) return run_together(r, bound);
    const Unlocked others(r.mutex);  // a core's caller gives nothing back that it runs with
    return run({bound});
  });
}

// Of the stand-in alone, for tests: what is there now, what was misused since the last reset.
EMULATED uint64_t emulated_nrt_live() {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  return r.live();
}
EMULATED uint64_t emulated_nrt_misuse() {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  return r.misuse;
}
EMULATED void emulated_nrt_reset() {
  Runtime& r = runtime();
  const std::lock_guard hold(r.mutex);
  r.misuse = 0;
  r.calls.clear();
}
