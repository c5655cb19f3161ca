#include "backends/neuron/nrt.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "backends/neuron/nrt_status.h"
#include "base/error.h"

namespace ng::nrt {
namespace {

constexpr int32_t kCore = 0, kOneCore = 1;
constexpr const char* kInstalled = "/opt/aws/neuron/lib/libnrt.so.1";
constexpr uint64_t kMostTensors = 100'000;

// Again, after a pause, where the policy is so.
template <class F, class... Args>
Status call_patiently(F function, Args... args) {
  Status status = function(args...);
  auto pause = std::chrono::milliseconds(1);
  for (int i = 1; i < kTries && describe_status(status).policy == Policy::retry; ++i) {
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds(100));
    status = function(args...);
  }
  return status;
}

}  // namespace

// Absent functions are null.
struct Runtime::Functions {
  Status (*init)(int32_t framework, const char* framework_version, const char* fal_version);
  void (*close)();
  Status (*load)(const void* neff, size_t size, int32_t core, int32_t cores, Model** model);
  Status (*unload)(Model* model);
  Status (*get_model_tensor_info)(Model* model, TensorInfos** infos);
  Status (*free_model_tensor_info)(TensorInfos* infos);
  Status (*tensor_allocate)(int32_t place, int32_t core, size_t size, const char* name, Buffer**);
  void (*tensor_free)(Buffer** buffer);
  Status (*tensor_read)(const Buffer* buffer, void* bytes, size_t offset, size_t size);
  Status (*tensor_write)(Buffer* buffer, const void* bytes, size_t offset, size_t size);
  Status (*allocate_tensor_set)(Set** set);
  void (*destroy_tensor_set)(Set** set);
  Status (*add_tensor_to_tensor_set)(Set* set, const char* name, Buffer* buffer);
  Status (*execute)(Model* model, const Set* inputs, Set* outputs);
  // Not in all versions.
  Status (*get_version)(Version* version, size_t size);
  Status (*get_visible_core_count)(uint32_t* count);
  Status (*get_memory_stats)(uint32_t core, MemoryStats* stats, size_t in, size_t* out);
};

void Release::operator()(void* object) const noexcept {
  const Runtime::Functions& functions = *runtime->functions_;
  switch (kind) {
    case Kind::model: call_patiently(functions.unload, static_cast<Model*>(object)); return;
    case Kind::buffer: {
      auto* buffer = static_cast<Buffer*>(object);
      return functions.tensor_free(&buffer);
    }
    case Kind::set: {
      auto* set = static_cast<Set*>(object);
      return functions.destroy_tensor_set(&set);
    }
  }
}

Runtime::Runtime(const std::string& library, Unopened) : functions_(std::make_unique<Functions>()) {
  open(library);
  bind();
  read_version();
}

Runtime::Runtime(const std::string& library) : Runtime(library, Unopened{}) {
  // Results must not depend on chance; the runtime reads this when it begins.
  ::setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "0", 1);
  if (visible_cores() == 0U) {
    fail("no Neuron core is visible: see `neuron-ls` and NEURON_RT_VISIBLE_CORES");
  }
  call("nrt_init", functions_->init, kNoFramework, "", "");
  open_ = true;
}

// The library stays loaded: it may have threads of its own.
Runtime::~Runtime() {
  if (open_) functions_->close();
}

Found find_runtime(const std::string& library) {
  const Runtime runtime(library, Runtime::Unopened{});
  return {runtime.path_, runtime.version_, runtime.visible_cores()};
}

void Runtime::open(const std::string& library) {
  const char* named = std::getenv("NEUROGLOT_LIBNRT");
  path_ = !library.empty() ? library : named != nullptr && *named != '\0' ? named : "libnrt.so.1";
  library_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  const std::string reason = library_ == nullptr ? ::dlerror() : "";
  if (library_ == nullptr && path_ == "libnrt.so.1") {
    library_ = ::dlopen(kInstalled, RTLD_NOW | RTLD_LOCAL);
  }
  if (library_ != nullptr) return;
  fail(
      fmt::format("cannot be loaded: {}. It is of an Inf2, Trn1 or Trn2 instance (sudo apt-get "
                  "install aws-neuronx-runtime-lib); --libnrt PATH says where it is, and --device "
                  "emulated rehearses without",
                  shown(reason, 400)));
}

template <class F>
bool Runtime::bind(F& function, const char* name) {
  function = reinterpret_cast<F>(::dlsym(library_, name));
  return function != nullptr;
}

template <class F>
void Runtime::bind_needed(F& function, const char* name) {
  if (!bind(function, name)) fail(fmt::format("is no Neuron runtime: it lacks {}", name));
}

void Runtime::bind() {
  Functions& f = *functions_;
  bind_needed(f.init, "nrt_init");
  bind_needed(f.close, "nrt_close");
  bind_needed(f.load, "nrt_load");
  bind_needed(f.unload, "nrt_unload");
  bind_needed(f.get_model_tensor_info, "nrt_get_model_tensor_info");
  bind_needed(f.free_model_tensor_info, "nrt_free_model_tensor_info");
  bind_needed(f.tensor_allocate, "nrt_tensor_allocate");
  bind_needed(f.tensor_free, "nrt_tensor_free");
  bind_needed(f.tensor_read, "nrt_tensor_read");
  bind_needed(f.tensor_write, "nrt_tensor_write");
  bind_needed(f.allocate_tensor_set, "nrt_allocate_tensor_set");
  bind_needed(f.destroy_tensor_set, "nrt_destroy_tensor_set");
  bind_needed(f.add_tensor_to_tensor_set, "nrt_add_tensor_to_tensor_set");
  bind_needed(f.execute, "nrt_execute");
  bind(f.get_version, "nrt_get_version");
  // A core was called nc before it was called vnc.
  if (!bind(f.get_visible_core_count, "nrt_get_visible_vnc_count")) {
    bind(f.get_visible_core_count, "nrt_get_visible_nc_count");
  }
  bind(f.get_memory_stats, "nrt_get_vnc_memory_stats");
}

void Runtime::read_version() {
  Version version = {};
  if (functions_->get_version == nullptr) return;
  if (functions_->get_version(&version, sizeof version) != kSuccess) return;
  version_ = parse_neuron_version(
      fmt::format("{}.{}.{}.{}", version.major, version.minor, version.patch, version.maintenance));
}

std::optional<uint32_t> Runtime::visible_cores() const {
  uint32_t count = 0;
  if (functions_->get_visible_core_count == nullptr ||
      functions_->get_visible_core_count(&count) != kSuccess) {
    return {};
  }
  return count;
}

template <class F, class... Args>
void Runtime::call(const char* name, F function, Args... args) {
  if (!lost_.empty()) fail(fmt::format("the device was lost before: {}", lost_));
  const Status status = call_patiently(function, args...);
  if (status == kSuccess) return;
  const StatusRow& row = describe_status(status);
  std::string message = fmt::format("{} gave {} ({})", name, row.name, status);
  if (row.policy == Policy::retry) message += fmt::format(" {} times", kTries);
  if (!row.advice.empty()) message += fmt::format(": {}", row.advice);
  if (status == kResource) message += memory_used();
  if (row.policy == Policy::restart) lost_ = message;
  fail(message);
}

std::string Runtime::memory_used() const {
  MemoryStats stats = {};
  size_t written = 0;
  if (functions_->get_memory_stats == nullptr ||
      functions_->get_memory_stats(kCore, &stats, sizeof stats, &written) != kSuccess) {
    return "";
  }
  return fmt::format(" ({} of {} MB are used)", stats.used >> 20, stats.limit >> 20);
}

void Runtime::fail(const std::string& message) const {
  throw Error(Error::Kind::Device,
              fmt::format("Neuron runtime {}: {}", shown(path_, 400), message));
}

Handle Runtime::load(std::span<const std::byte> neff) {
  Model* model = nullptr;
  const void* bytes = neff.data();
  call("nrt_load", functions_->load, bytes, neff.size(), kCore, kOneCore, &model);
  if (model == nullptr) fail("nrt_load gave nothing");
  return {model, Release{this, Kind::model}};
}

std::vector<NamedTensor> Runtime::tensors_of(const Handle& model) {
  TensorInfos* infos = nullptr;
  call("nrt_get_model_tensor_info", functions_->get_model_tensor_info,
       static_cast<Model*>(model.get()), &infos);
  if (infos == nullptr) fail("nrt_get_model_tensor_info gave nothing");
  std::vector<NamedTensor> found;
  const uint64_t count = infos->count;
  for (uint64_t i = 0; i < std::min(count, kMostTensors); ++i) {
    const TensorInfo& info = infos->begin()[i];
    found.push_back({std::string(info.name, ::strnlen(info.name, sizeof info.name)),
                     info.usage == kInput, info.size});
  }
  call("nrt_free_model_tensor_info", functions_->free_model_tensor_info, infos);
  if (count > kMostTensors) fail(fmt::format("a NEFF has {} tensors", count));
  return found;
}

Handle Runtime::allocate(uint64_t bytes, const std::string& name) {
  Buffer* buffer = nullptr;
  call("nrt_tensor_allocate", functions_->tensor_allocate, kOnDevice, kCore, size_t{bytes},
       name.c_str(), &buffer);
  if (buffer == nullptr) fail("nrt_tensor_allocate gave nothing");
  return {buffer, Release{this, Kind::buffer}};
}

void Runtime::write(const Handle& buffer, std::span<const std::byte> bytes) {
  call("nrt_tensor_write", functions_->tensor_write, static_cast<Buffer*>(buffer.get()),
       static_cast<const void*>(bytes.data()), size_t{0}, bytes.size());
}

void Runtime::read(const Handle& buffer, std::span<std::byte> bytes) {
  call("nrt_tensor_read", functions_->tensor_read, static_cast<const Buffer*>(buffer.get()),
       static_cast<void*>(bytes.data()), size_t{0}, bytes.size());
}

Handle Runtime::make_set() {
  Set* set = nullptr;
  call("nrt_allocate_tensor_set", functions_->allocate_tensor_set, &set);
  if (set == nullptr) fail("nrt_allocate_tensor_set gave nothing");
  return {set, Release{this, Kind::set}};
}

void Runtime::add(const Handle& set, const std::string& name, const Handle& buffer) {
  call("nrt_add_tensor_to_tensor_set", functions_->add_tensor_to_tensor_set,
       static_cast<Set*>(set.get()), name.c_str(), static_cast<Buffer*>(buffer.get()));
}

void Runtime::execute(const Handle& model, const Handle& inputs, const Handle& outputs) {
  call("nrt_execute", functions_->execute, static_cast<Model*>(model.get()),
       static_cast<const Set*>(inputs.get()), static_cast<Set*>(outputs.get()));
}

}  // namespace ng::nrt
