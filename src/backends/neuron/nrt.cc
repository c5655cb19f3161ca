#include "backends/neuron/nrt.h"

#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "backends/neuron/nrt_status.h"
#include "base/error.h"

namespace ng::nrt {
namespace {

constexpr int32_t kOneCore = 1;
constexpr const char* kInstalled = "/opt/aws/neuron/lib/libnrt.so.1";
constexpr uint64_t kMostTensors = 100'000;

// Where ranks meet, an address that the runtime reads when it begins; 0: none was free.
constexpr const char* kRootVariable = "NEURON_RT_ROOT_COMM_ID";
int free_port() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const int found = ::socket(AF_INET, SOCK_STREAM, 0);
  if (found < 0) return 0;
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  const bool bound = ::bind(found, plain, size) == 0 && ::getsockname(found, plain, &size) == 0;
  ::close(found);
  return bound ? ntohs(address.sin_port) : 0;
}

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

// Absent functions are null.
struct Functions {
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
  Status (*load_collectives)(const void* neff, size_t size, int32_t core, int32_t cores,
                             uint32_t rank, uint32_t ranks, Model** model);
  Status (*get_version)(Version* version, size_t size);
  Status (*get_visible_core_count)(uint32_t* count);
  Status (*get_memory_stats)(uint32_t core, MemoryStats* stats, size_t in, size_t* out);
};

[[noreturn]] void fail(const std::string& path, const std::string& message) {
  throw Error(Error::Kind::Device, fmt::format("Neuron runtime {}: {}", shown(path, 400), message));
}

}  // namespace

// It stays loaded when it goes: it may have threads of its own.
struct Library {
  explicit Library(const std::string& named);
  ~Library() {
    if (open) functions.close();
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  std::string path;
  Functions functions = {};
  std::optional<NeuronVersion> version;
  std::optional<uint32_t> cores;  // that this process sees
  bool open = false;              // nrt_init was called

 private:
  template <class F>
  bool bind(F& function, const char* name);
  template <class F>
  void bind_needed(F& function, const char* name);
  void bind_all();
  void ask();

  void* handle_ = nullptr;
};

Library::Library(const std::string& named) {
  const char* other = std::getenv("NEUROGLOT_LIBNRT");
  path = !named.empty() ? named : other != nullptr && *other != '\0' ? other : "libnrt.so.1";
  handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const std::string reason = handle_ == nullptr ? ::dlerror() : "";
  if (handle_ == nullptr && path == "libnrt.so.1") {
    handle_ = ::dlopen(kInstalled, RTLD_NOW | RTLD_LOCAL);
  }
  if (handle_ == nullptr) {
    fail(path, fmt::format(
                   "cannot be loaded: {}. It is of an Inf2, Trn1 or Trn2 instance (sudo apt-get "
                   "install aws-neuronx-runtime-lib); --libnrt PATH says where it is, and --device "
                   "emulated rehearses without",
                   shown(reason, 400)));
  }
  bind_all();
  ask();
}

template <class F>
bool Library::bind(F& function, const char* name) {
  function = reinterpret_cast<F>(::dlsym(handle_, name));
  return function != nullptr;
}

template <class F>
void Library::bind_needed(F& function, const char* name) {
  if (!bind(function, name)) fail(path, fmt::format("is no Neuron runtime: it lacks {}", name));
}

void Library::bind_all() {
  Functions& f = functions;
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
  bind(f.load_collectives, "nrt_load_collectives");
  bind(f.get_version, "nrt_get_version");
  // A core was called nc before it was called vnc.
  if (!bind(f.get_visible_core_count, "nrt_get_visible_vnc_count")) {
    bind(f.get_visible_core_count, "nrt_get_visible_nc_count");
  }
  bind(f.get_memory_stats, "nrt_get_vnc_memory_stats");
}

void Library::ask() {
  Version found = {};
  if (functions.get_version != nullptr && functions.get_version(&found, sizeof found) == kSuccess) {
    version = parse_neuron_version(
        fmt::format("{}.{}.{}.{}", found.major, found.minor, found.patch, found.maintenance));
  }
  uint32_t count = 0;
  if (functions.get_visible_core_count != nullptr &&
      functions.get_visible_core_count(&count) == kSuccess) {
    cores = count;
  }
}

Found find_runtime(const std::string& library) {
  const Library found(library);
  return {found.path, found.version, found.cores};
}

namespace {

// That of other cores where there are any: a process initialises libnrt once.
std::shared_ptr<Library> shared_library(const std::string& named) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Library>> known;
  const std::lock_guard hold(mutex);
  std::shared_ptr<Library> library = known[named].lock();
  if (!library) known[named] = library = std::make_shared<Library>(named);
  return library;
}

}  // namespace

void Release::operator()(void* object) const noexcept {
  const Functions& functions = runtime->library_->functions;
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

Runtime::Runtime(const std::string& library, int core, Rank rank)
    : library_(shared_library(library)), core_(core), rank_(rank) {
  if (rank_.of > 1 && library_->functions.load_collectives == nullptr) {
    fail(library_->path, "lacks nrt_load_collectives, which bundles of --tp need");
  }
  if (!library_->open) {
    if (cores() == 0) {
      fail(library_->path,
           "no Neuron core is visible: see `neuron-ls` and NEURON_RT_VISIBLE_CORES");
    }
    // Results must not depend on chance; the runtime reads this when it begins.
    ::setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "0", 1);
    if (rank_.of > 1) ::setenv(kRootVariable, fmt::format("127.0.0.1:{}", free_port()).c_str(), 0);
    call("nrt_init", library_->functions.init, kNoFramework, "", "");
    library_->open = true;
  }
  if (core_ >= cores())
    fail(library_->path, fmt::format("core {}: {} are visible", core_, cores()));
}

const std::optional<NeuronVersion>& Runtime::version() const { return library_->version; }
int Runtime::cores() const { return static_cast<int>(library_->cores.value_or(1)); }

template <class F, class... Args>
void Runtime::call(std::string_view name, F function, Args... args) {
  if (!lost_.empty()) fail(library_->path, fmt::format("the device was lost before: {}", lost_));
  const Status status = call_patiently(function, args...);
  if (status == kSuccess) return;
  const StatusRow& row = describe_status(status);
  std::string message = fmt::format("{} gave {} ({})", name, row.name, status);
  if (row.policy == Policy::retry) message += fmt::format(" {} times", kTries);
  if (!row.advice.empty()) message += fmt::format(": {}", row.advice);
  if (status == kResource) message += memory_used();
  if (row.policy == Policy::restart) lost_ = message;
  fail(library_->path, message);
}

std::string Runtime::memory_used() const {
  MemoryStats stats = {};
  size_t written = 0;
  if (library_->functions.get_memory_stats == nullptr ||
      library_->functions.get_memory_stats(core_, &stats, sizeof stats, &written) != kSuccess) {
    return "";
  }
  return fmt::format(" ({} of {} MB are used)", stats.used >> 20, stats.limit >> 20);
}

Handle Runtime::load(std::span<const std::byte> neff, const std::string& what) {
  Model* model = nullptr;
  const void* bytes = neff.data();
  if (rank_.of == 1) {
    call("nrt_load of " + what, library_->functions.load, bytes, neff.size(), core_, kOneCore,
         &model);
  } else {
    call("nrt_load_collectives of " + what, library_->functions.load_collectives, bytes,
         neff.size(), core_, kOneCore, static_cast<uint32_t>(rank_.number),
         static_cast<uint32_t>(rank_.of), &model);
  }
  if (model == nullptr) fail(library_->path, "loading gave nothing");
  return {model, Release{this, Kind::model}};
}

std::vector<NamedTensor> Runtime::tensors_of(const Handle& model) {
  TensorInfos* infos = nullptr;
  call("nrt_get_model_tensor_info", library_->functions.get_model_tensor_info,
       static_cast<Model*>(model.get()), &infos);
  if (infos == nullptr) fail(library_->path, "nrt_get_model_tensor_info gave nothing");
  std::vector<NamedTensor> found;
  const uint64_t count = infos->count;
  for (uint64_t i = 0; i < std::min(count, kMostTensors); ++i) {
    const TensorInfo& info = infos->begin()[i];
    found.push_back({std::string(info.name, ::strnlen(info.name, sizeof info.name)),
                     info.usage == kInput, info.size});
  }
  call("nrt_free_model_tensor_info", library_->functions.free_model_tensor_info, infos);
  if (count > kMostTensors) fail(library_->path, fmt::format("a NEFF has {} tensors", count));
  return found;
}

Handle Runtime::allocate(uint64_t bytes, const std::string& name) {
  Buffer* buffer = nullptr;
  call("nrt_tensor_allocate", library_->functions.tensor_allocate, kOnDevice, core_, size_t{bytes},
       name.c_str(), &buffer);
  if (buffer == nullptr) fail(library_->path, "nrt_tensor_allocate gave nothing");
  return {buffer, Release{this, Kind::buffer}};
}

void Runtime::write(const Handle& buffer, std::span<const std::byte> bytes) {
  call("nrt_tensor_write", library_->functions.tensor_write, static_cast<Buffer*>(buffer.get()),
       static_cast<const void*>(bytes.data()), size_t{0}, bytes.size());
}

void Runtime::read(const Handle& buffer, std::span<std::byte> bytes) {
  call("nrt_tensor_read", library_->functions.tensor_read, static_cast<const Buffer*>(buffer.get()),
       static_cast<void*>(bytes.data()), size_t{0}, bytes.size());
}

Handle Runtime::make_set() {
  Set* set = nullptr;
  call("nrt_allocate_tensor_set", library_->functions.allocate_tensor_set, &set);
  if (set == nullptr) fail(library_->path, "nrt_allocate_tensor_set gave nothing");
  return {set, Release{this, Kind::set}};
}

void Runtime::add(const Handle& set, const std::string& name, const Handle& buffer) {
  call("nrt_add_tensor_to_tensor_set", library_->functions.add_tensor_to_tensor_set,
       static_cast<Set*>(set.get()), name.c_str(), static_cast<Buffer*>(buffer.get()));
}

void Runtime::execute(const Handle& model, const Handle& inputs, const Handle& outputs) {
  call("nrt_execute", library_->functions.execute, static_cast<Model*>(model.get()),
       static_cast<const Set*>(inputs.get()), static_cast<Set*>(outputs.get()));
}

}  // namespace ng::nrt
