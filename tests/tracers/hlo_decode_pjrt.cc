#include "hlo_decode_pjrt.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstring>

#include "base/error.h"

namespace ng::tracer {
namespace {

// Slots of PJRT_Api's table of functions, which begins at byte 40.
enum Slot {
  kErrorDestroy = 0,
  kErrorMessage = 1,
  kPluginInitialize = 3,
  kEventDestroy = 5,
  kEventAwait = 8,
  kClientCreate = 10,
  kClientDestroy = 11,
  kClientPlatformVersion = 14,
  kClientAddressableDevices = 16,
  kClientCompile = 20,
  kBufferFromHost = 22,
  kExecutableDestroy = 40,
  kExecutableNumOutputs = 44,
  kLoadedDestroy = 50,
  kLoadedGetExecutable = 51,
  kLoadedExecute = 55,
  kBufferDestroy = 58,
  kBufferIsDeleted = 68,
  kBufferToHost = 70,
  kBufferUnsafePointer = 73,
  kMemoryStats = 96,
};

// Every struct of arguments begins with its own size up to the end of its last field (kSize, which
// is not sizeof) and a list of extensions. Sizes are those of version 0.114: a plugin takes what is
// larger than its own and refuses what is smaller.
struct Head {
  size_t struct_size = 0;
  void* extensions = nullptr;
};
struct Nothing : Head {
  static constexpr size_t kSize = 16;
};
struct Object : Head {
  static constexpr size_t kSize = 24;
  void* object = nullptr;
};
struct Lookup : Head {  // object → one word
  static constexpr size_t kSize = 32;
  void* object = nullptr;
  uintptr_t result = 0;
};
struct Flag : Head {  // object → bool
  static constexpr size_t kSize = 25;
  void* object = nullptr;
  bool result = false;
};
struct List : Head {  // object → an array, or bytes
  static constexpr size_t kSize = 40;
  void* object = nullptr;
  const void* data = nullptr;
  size_t size = 0;
};
struct NamedValue : Head {
  static constexpr size_t kSize = 56;
  const char* name = nullptr;
  size_t name_size = 0;
  int type = 1;  // int64
  int64_t value = 0;
  size_t value_size = 1;
};
struct ClientCreate : Head {
  static constexpr size_t kSize = 88;
  const NamedValue* options = nullptr;
  size_t option_count = 0;
  void* key_value_store[4] = {};
  void* client = nullptr;
  void* more_key_value_store[2] = {};
};
struct Program : Head {
  static constexpr size_t kSize = 48;
  const char* code = nullptr;
  size_t code_size = 0;
  const char* format = nullptr;
  size_t format_size = 0;
};
struct Compile : Head {
  static constexpr size_t kSize = 56;
  void* client = nullptr;
  const Program* program = nullptr;
  const char* options = nullptr;
  size_t options_size = 0;
  void* executable = nullptr;
};
struct MemoryStats : Head {
  static constexpr size_t kSize = 144;
  void* executable = nullptr;
  int64_t code = 0, arguments = 0, outputs = 0, aliases = 0, temporaries = 0;
  int64_t more[10] = {};
};
struct Layout : Head {  // tiled, without tiles
  static constexpr size_t kSize = 76;
  size_t tiled_size = 56;
  void* tiled_extensions = nullptr;
  const int64_t* minor_to_major = nullptr;
  size_t rank = 0;
  const int64_t* tiles = nullptr;
  const size_t* tile_sizes = nullptr;
  size_t tile_count = 0;
  int kind = 0;
};
struct FromHost : Head {
  static constexpr size_t kSize = 120;
  void* client = nullptr;
  const void* data = nullptr;
  int type = 0;
  const int64_t* dims = nullptr;
  size_t rank = 0;
  const int64_t* strides = nullptr;
  size_t stride_count = 0;
  int semantics = 0;  // the bytes stay during the call only
  void* device = nullptr;
  void* memory = nullptr;
  void* layout = nullptr;
  void* done = nullptr;
  void* buffer = nullptr;
};
struct ToHost : Head {
  static constexpr size_t kSize = 56;
  void* buffer = nullptr;
  Layout* layout = nullptr;
  void* data = nullptr;
  size_t size = 0;
  void* event = nullptr;
};
struct ExecuteOptions : Head {
  static constexpr size_t kSize = 144;
  void* callbacks[4] = {};
  int launch_id = 0;
  const int64_t* not_donated = nullptr;
  size_t not_donated_count = 0;
  void* more[9] = {};
};
struct Execute : Head {
  static constexpr size_t kSize = 80;
  void* executable = nullptr;
  ExecuteOptions* options = nullptr;
  void* const* const* arguments = nullptr;
  size_t devices = 1;
  size_t argument_count = 0;
  void** const* outputs = nullptr;
  void** events = nullptr;
  void* device = nullptr;
};

// offsetof in a derived struct is conditionally supported; both compilers here support it.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
static_assert(offsetof(Flag, result) == 24 && offsetof(List, size) == 32);
static_assert(offsetof(NamedValue, value) == 40 && sizeof(NamedValue) == NamedValue::kSize);
static_assert(offsetof(ClientCreate, client) == 64 && sizeof(ClientCreate) == ClientCreate::kSize);
static_assert(offsetof(Compile, executable) == 48 && sizeof(Program) == Program::kSize);
static_assert(offsetof(MemoryStats, aliases) == 48 && sizeof(MemoryStats) == MemoryStats::kSize);
static_assert(offsetof(Layout, tile_count) == 64 && offsetof(Layout, kind) == 72);
static_assert(offsetof(FromHost, semantics) == 72 && offsetof(FromHost, buffer) == 112);
static_assert(offsetof(ToHost, event) == 48 && sizeof(ToHost) == ToHost::kSize);
static_assert(offsetof(ExecuteOptions, not_donated) == 56);
static_assert(sizeof(ExecuteOptions) == ExecuteOptions::kSize);
static_assert(offsetof(Execute, device) == 72 && sizeof(Execute) == Execute::kSize);

using Function = void* (*)(void*);  // all but two return an error or null

Function function(const char* api, int slot) {
  size_t size = 0;
  std::memcpy(&size, api, sizeof size);
  const size_t at = 40 + 8 * static_cast<size_t>(slot);
  Function found = nullptr;
  if (at + 8 <= size) std::memcpy(&found, api + at, sizeof found);
  if (found == nullptr) {
    throw Error(Error::Kind::Device, fmt::format("the plugin lacks function {}", slot));
  }
  return found;
}

std::string message_of(const char* api, void* error) {
  List message;
  message.struct_size = List::kSize;
  message.object = error;
  function(api, kErrorMessage)(&message);
  std::string text(static_cast<const char*>(message.data), message.size);
  Object destroy;
  destroy.struct_size = Object::kSize;
  destroy.object = error;
  function(api, kErrorDestroy)(&destroy);
  return text;
}

// xla.CompileOptionsProto: executable_build_options { device_ordinal -1, one replica, one partition
// }
constexpr unsigned char kCompileOptions[] = {0x1A, 0x0F, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                             0xFF, 0xFF, 0xFF, 0x01, 0x20, 0x01, 0x28, 0x01};

int buffer_type(DType dtype) {  // not numbered as HLO's types are
  NG_CHECK(dtype == DType::f32 || dtype == DType::s32, "no buffer of {}", name(dtype));
  return dtype == DType::f32 ? 11 : 4;
}

}  // namespace

template <class Args>
void Pjrt::call(int slot, Args& args) const {
  args.struct_size = Args::kSize;
  void* error = function(api_, slot)(&args);
  if (error == nullptr) return;
  throw Error(Error::Kind::Device,
              fmt::format("PJRT function {}: {}", slot, message_of(api_, error)));
}

void Pjrt::Free::operator()(void* buffer) const {
  Object args;
  args.object = buffer;
  pjrt->call(kBufferDestroy, args);
}

Pjrt::Pjrt(const std::string& library) {
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  check(handle != nullptr, "{}: {}", library, handle == nullptr ? ::dlerror() : "");
  void* symbol = ::dlsym(handle, "GetPjrtApi");
  check(symbol != nullptr, "{} is no PJRT plugin: it has no GetPjrtApi", library);
  api_ = reinterpret_cast<const char* (*)()>(symbol)();
  Nothing initialize;
  call(kPluginInitialize, initialize);
  NamedValue devices;
  devices.struct_size = NamedValue::kSize;
  devices.name = "cpu_device_count";
  devices.name_size = std::strlen(devices.name);
  devices.value = 1;
  ClientCreate create;
  create.options = &devices;
  create.option_count = 1;
  call(kClientCreate, create);
  client_ = create.client;
  List found;
  found.object = client_;
  call(kClientAddressableDevices, found);
  check(found.size > 0, "{}: no device", library);
  device_ = static_cast<void* const*>(found.data)[0];
}

Pjrt::~Pjrt() {
  Object args;
  args.object = client_;
  call(kClientDestroy, args);
}

std::string Pjrt::description() const {
  int version[2] = {};
  std::memcpy(version, api_ + 32, sizeof version);
  size_t size = 0;
  std::memcpy(&size, api_, sizeof size);
  List text;
  text.object = client_;
  call(kClientPlatformVersion, text);
  return fmt::format("PJRT {}.{} (table of {} bytes), {}", version[0], version[1], size,
                     std::string_view(static_cast<const char*>(text.data), text.size));
}

Pjrt::Loaded Pjrt::compile(const std::string& hlo_module) const {
  Program program;
  program.struct_size = Program::kSize;
  program.code = hlo_module.data();
  program.code_size = hlo_module.size();
  program.format = "hlo";
  program.format_size = 3;
  Compile args;
  args.client = client_;
  args.program = &program;
  args.options = reinterpret_cast<const char*>(kCompileOptions);
  args.options_size = sizeof kCompileOptions;
  call(kClientCompile, args);
  Loaded loaded;
  loaded.executable = args.executable;
  Lookup inner;
  inner.object = loaded.executable;
  call(kLoadedGetExecutable, inner);
  Lookup outputs;
  outputs.object = reinterpret_cast<void*>(inner.result);
  call(kExecutableNumOutputs, outputs);
  loaded.outputs = outputs.result;
  MemoryStats memory;
  memory.executable = outputs.object;
  call(kMemoryStats, memory);
  loaded.argument_bytes = memory.arguments;
  loaded.alias_bytes = memory.aliases;
  loaded.temporary_bytes = memory.temporaries;
  Object destroy;
  destroy.object = outputs.object;
  call(kExecutableDestroy, destroy);
  return loaded;
}

void Pjrt::destroy(Loaded& loaded) const {
  if (loaded.executable == nullptr) return;
  Object args;
  args.object = std::exchange(loaded.executable, nullptr);
  call(kLoadedDestroy, args);
}

void Pjrt::wait(void* event) const {
  Object await, destroy;
  await.object = destroy.object = event;
  call(kEventAwait, await);
  call(kEventDestroy, destroy);
}

Pjrt::Buffer Pjrt::upload(const Type& type, const void* data) const {
  std::vector<int64_t> dims;
  for (const Dim& dim : type.shape) dims.push_back(dim.size);
  FromHost args;
  args.client = client_;
  args.data = data;
  args.type = buffer_type(type.dtype);
  args.dims = dims.data();
  args.rank = dims.size();
  args.device = device_;
  call(kBufferFromHost, args);
  Buffer buffer(args.buffer, Free{this});
  wait(args.done);
  return buffer;
}

std::vector<std::byte> Pjrt::download(void* buffer, const Type& type) const {
  std::vector<int64_t> order;
  for (int i = type.rank() - 1; i >= 0; --i) order.push_back(i);
  Layout row_major;
  row_major.struct_size = Layout::kSize;
  row_major.minor_to_major = order.data();
  row_major.rank = order.size();
  std::vector<std::byte> bytes(static_cast<size_t>(byte_count(type)));
  ToHost args;
  args.buffer = buffer;
  args.layout = &row_major;
  args.data = bytes.data();
  args.size = bytes.size();
  call(kBufferToHost, args);
  wait(args.event);
  return bytes;
}

std::vector<Pjrt::Buffer> Pjrt::execute(const Loaded& loaded,
                                        std::span<void* const> arguments) const {
  ExecuteOptions options;
  options.struct_size = ExecuteOptions::kSize;
  std::vector<void*> results(loaded.outputs);
  void* const* argument_list = arguments.data();
  void** result_list = results.data();
  void* event = nullptr;
  Execute args;
  args.executable = loaded.executable;
  args.options = &options;
  args.arguments = &argument_list;
  args.argument_count = arguments.size();
  args.outputs = &result_list;
  args.events = &event;
  call(kLoadedExecute, args);
  std::vector<Buffer> buffers;
  for (void* result : results) buffers.emplace_back(result, Free{this});
  wait(event);
  return buffers;
}

bool Pjrt::is_deleted(void* buffer) const {
  Flag args;
  args.object = buffer;
  call(kBufferIsDeleted, args);
  return args.result;
}

uintptr_t Pjrt::address(void* buffer) const {
  Lookup args;
  args.object = buffer;
  call(kBufferUnsafePointer, args);
  return args.result;
}

}  // namespace ng::tracer
