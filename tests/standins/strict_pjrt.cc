// A stand-in for a PJRT plugin, for tests: it checks its caller and computes nothing. Outputs with
// an alias take the parameter's bytes, the others are zeros. The sizes that it demands were
// measured with the headers of four versions, apart from src/backends/pjrt/abi.h's history.
#include "strict_pjrt.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backends/pjrt/abi.h"

namespace {

using namespace ng::pjrt;     // NOLINT: the structs
using namespace ng::standin;  // NOLINT

Control control;
std::set<void*> objects;
int devices[16];
int device_count = 4;
int replicas = 1;  // of the last compilation
void* device_list[16];

// The columns: 0.55, 0.81, 0.104, 0.114.
const std::map<int, std::vector<size_t>> kGrown = {{4, {24, 32, 32, 32}},
                                                   {10, {72, 88, 88, 88}},
                                                   {34, {185, 185, 185, 201}},
                                                   {96, {104, 112, 144, 144}}};
const std::vector<size_t> kExecuteOptionsSize = {72, 112, 120, 144};
const std::map<int, size_t> kFixed = {{0, 24},  {1, 40},  {2, 28},  {3, 16},  {5, 24},  {8, 24},
                                      {11, 24}, {12, 40}, {14, 40}, {16, 40}, {20, 56}, {22, 120},
                                      {40, 24}, {44, 32}, {50, 24}, {51, 32}, {52, 40}, {55, 80},
                                      {58, 24}, {70, 56}, {90, 40}, {91, 48}};

int version() {
  if (control.version != 0) return control.version;
  const char* set = std::getenv("NEURON_INTERNAL_PJRT_C_API_VERSION");
  return set == nullptr ? 104 : std::atoi(set + 2);
}
size_t column() { return version() >= 114 ? 3 : version() >= 104 ? 2 : version() >= 81 ? 1 : 0; }

struct Object {
  virtual ~Object() = default;
};
struct Failure : Object {
  int code = 0;
  std::string message;
};
struct Event : Object {};
struct Client : Object {};
struct Executable : Object {};  // loaded, or what is inside
struct Buffer : Object {
  std::vector<std::byte> bytes;
  bool deleted = false;
};

template <class T>
T* make(T* object) {
  objects.insert(static_cast<Object*>(object));
  control.live = static_cast<int>(objects.size());
  return object;
}
template <class T>
T* known(void* object) {
  auto* found = objects.contains(object) ? dynamic_cast<T*>(static_cast<Object*>(object)) : nullptr;
  if (found == nullptr) ++control.misuse;
  return found;
}
template <class T>
void* destroy(ObjectArgs& args) {
  if (T* object = known<T>(args.object)) {
    objects.erase(args.object);
    delete object;
  }
  control.live = static_cast<int>(objects.size());
  return nullptr;
}
void* error(int code, const std::string& message) {
  Failure* failure = make(new Failure);
  failure->code = code;
  failure->message = message;
  return static_cast<Object*>(failure);
}
void* sized(const Head& head, size_t wanted, const std::string& what) {
  const bool good = control.lenient ? head.struct_size >= wanted : head.struct_size == wanted;
  if (good && head.extensions == nullptr) return nullptr;
  return error(3, "error condition !(args->struct_size == ss): " + what + " has size " +
                      std::to_string(head.struct_size) + ", expected " + std::to_string(wanted));
}

size_t bytes_of(int type, const int64_t* dims, size_t rank) {
  size_t bytes = type == kBufferBf16 ? 2 : 4;
  for (size_t i = 0; i < rank; ++i) bytes *= static_cast<size_t>(dims[i]);
  return bytes;
}

void* error_message(ListArgs& args) {
  if (auto* failure = known<Failure>(args.object)) {
    args.data = failure->message.data();
    args.size = failure->message.size();
  }
  return nullptr;
}
void* error_code(ErrorCodeArgs& args) {
  if (auto* failure = known<Failure>(args.error)) args.code = failure->code;
  return nullptr;
}
void* nothing(NoArgs&) { return nullptr; }
void* attributes(PluginAttributesArgs& args) {
  static const int64_t numbers[] = {1, 16, 2};
  static NamedValue value;
  value.name = "stablehlo_current_version";
  value.name_size = std::strlen(value.name);
  value.kind = NamedValue::kInt64List;
  value.numbers = numbers;
  value.value_size = 3;
  // At 0.55 the struct ends before the count, by the header's mistake; it is written all the same.
  args.attributes = control.null_attributes ? nullptr : &value;
  args.count = 1;
  return nullptr;
}
void* await(ObjectArgs& args) {
  known<Event>(args.object);
  return nullptr;
}
void* client_create(ClientCreateArgs& args) {
  device_count = 4;
  for (size_t i = 0; i < args.option_count; ++i) {
    const NamedValue& option = args.options[i];
    if (void* wrong = sized(option.head, 56, "NamedValue")) return wrong;
    const std::string name(option.name, option.name_size);
    if (name != "cpu_device_count" || !control.knows_device_count) {
      return error(3, "Unexpected option name passed to PJRT_Client_Create: " + name);
    }
    device_count = static_cast<int>(option.number);
  }
  for (int i = 0; i < device_count; ++i) device_list[i] = &devices[i];
  args.client = static_cast<Object*>(make(new Client));
  return nullptr;
}
void* text(ListArgs& args) {
  known<Client>(args.object);
  args.data = "stand-in";
  args.size = 8;
  return nullptr;
}
void* list_devices(ListArgs& args) {
  args.data = device_list;
  args.size = static_cast<size_t>(device_count);
  return nullptr;
}
void* loaded_devices(ListArgs& args) {
  args.data = device_list;
  args.size = static_cast<size_t>(replicas);
  return nullptr;
}
void* compile(CompileArgs& args) {
  known<Client>(args.client);
  if (void* wrong = sized(args.program->head, 48, "Program")) return wrong;
  const std::string format(args.program->format, args.program->format_size);
  if (format == "hlo" && !control.knows_hlo) return error(3, "Unknown program format 'hlo'.");
  std::snprintf(control.last_format, sizeof control.last_format, "%s", format.c_str());
  if (args.options_size != 17) return error(3, "other compile options than expected");
  replicas = args.options[14];
  args.executable = static_cast<Object*>(make(new Executable));
  return nullptr;
}
void* get_executable(LookupArgs& args) {
  known<Executable>(args.object);
  args.result = reinterpret_cast<uintptr_t>(static_cast<Object*>(make(new Executable)));
  return nullptr;
}
void* num_outputs(LookupArgs& args) {
  known<Executable>(args.object);
  args.result = control.output_count;
  return nullptr;
}
void* output_types(ListArgs& args) {
  static int types[4];
  for (size_t i = 0; i < control.output_count; ++i) types[i] = control.outputs[i].type;
  args.data = types;
  args.size = control.output_count;
  return nullptr;
}
void* output_dimensions(OutputDimensionsArgs& args) {
  static std::vector<int64_t> dims;
  static size_t ranks[4];
  dims.clear();
  for (size_t i = 0; i < control.output_count; ++i) {
    const Output& output = control.outputs[i];
    dims.insert(dims.end(), output.dims, output.dims + output.rank);
    ranks[i] = output.rank;
  }
  args.output_count = control.output_count;
  args.dims = dims.data();
  args.ranks = ranks;
  return nullptr;
}
void* compiled_memory(CompiledMemoryArgs& args) {
  if (control.no_statistics) return error(kUnimplemented, "no statistics");
  args.aliases = control.alias_error;
  for (size_t i = 0; i < control.output_count; ++i) {
    const Output& output = control.outputs[i];
    if (output.alias < 0) continue;
    args.aliases += static_cast<int64_t>(bytes_of(output.type, output.dims, output.rank));
  }
  return nullptr;
}
void* device_memory(DeviceMemoryArgs& args) {
  if (control.no_statistics) return error(kUnimplemented, "no statistics");
  args.in_use = 5;
  args.limit = 7;
  args.has_limit = true;
  return nullptr;
}
void* from_host(FromHostArgs& args) {
  known<Client>(args.client);
  Buffer* buffer = make(new Buffer);
  const auto* data = static_cast<const std::byte*>(args.data);
  buffer->bytes.assign(data, data + bytes_of(args.type, args.dims, args.rank));
  args.buffer = static_cast<Object*>(buffer);
  args.done = static_cast<Object*>(make(new Event));
  return nullptr;
}
void* to_host(ToHostArgs& args) {
  if (args.layout == nullptr) return error(3, "no layout");
  if (void* wrong = sized(args.layout->head, 76, "MemoryLayout")) return wrong;
  if (void* wrong = sized(args.layout->tiled.head, 56, "Tiled")) return wrong;
  const Layout::Tiled& tiled = args.layout->tiled;
  for (size_t i = 0; i < tiled.rank; ++i) {
    const auto row_major = static_cast<int64_t>(tiled.rank - 1 - i);
    if (tiled.minor_to_major[i] != row_major) return error(3, "the layout is not row-major");
  }
  Buffer* buffer = known<Buffer>(args.buffer);
  if (buffer == nullptr || buffer->deleted) return error(3, "the buffer was deleted");
  if (args.size < buffer->bytes.size()) return error(3, "too little room");
  std::copy(buffer->bytes.begin(), buffer->bytes.end(), static_cast<std::byte*>(args.data));
  args.event = static_cast<Object*>(make(new Event));
  return nullptr;
}
void* execute(ExecuteArgs& args) {
  known<Executable>(args.executable);
  control.last_devices = static_cast<int>(args.device_count);
  if (void* wrong = sized(args.options->head, kExecuteOptionsSize[column()], "ExecuteOptions")) {
    return wrong;
  }
  if (args.events == nullptr) return error(3, "no events are requested");
  for (size_t d = 0; d < args.device_count; ++d) {
    for (size_t i = 0; i < args.argument_count; ++i) {
      const Buffer* one = known<Buffer>(args.arguments[d][i]);
      if (one == nullptr || one->deleted) return error(3, "an argument was deleted");
    }
    for (size_t i = 0; i < control.output_count; ++i) {
      const Output& output = control.outputs[i];
      Buffer* result = make(new Buffer);
      result->bytes.resize(bytes_of(output.type, output.dims, output.rank));
      if (output.alias >= 0) {
        Buffer* from = known<Buffer>(args.arguments[d][output.alias]);
        if (from->bytes.size() != result->bytes.size()) ++control.misuse;
        result->bytes = std::move(from->bytes);
        from->deleted = true;
      }
      args.outputs[d][i] = static_cast<Object*>(result);
    }
    args.events[d] = static_cast<Object*>(make(new Event));
  }
  return nullptr;
}

// What every function does first. An error that destroying gives comes after it was done.
template <int kSlot, class Args, void* (*kDo)(Args&)>
void* enter(void* raw) {
  Args& args = *static_cast<Args*>(raw);
  const bool fails = ++control.calls[kSlot] == control.failing_call && control.failing == kSlot;
  const auto grown = kGrown.find(kSlot);
  size_t size = grown != kGrown.end() ? grown->second[column()] : kFixed.at(kSlot);
  if (kSlot == 4 && control.short_attributes) size = 24;
  if (void* wrong = sized(args.head, size, "struct " + std::to_string(kSlot))) return wrong;
  if (fails && !std::is_same_v<Args, ObjectArgs>) {
    return error(control.failing_code, control.failing_message);
  }
  void* result = kDo(args);
  return fails ? error(control.failing_code, control.failing_message) : result;
}

struct Table {
  size_t size = 0;
  void* extensions = nullptr;
  size_t version_size = 24;
  void* version_extensions = nullptr;
  int major = 0, minor = 0;
  void* (*functions[kFunctions])(void*) = {};
};
static_assert(offsetof(Table, minor) == kMinorAt && offsetof(Table, functions) == kFunctionsAt);

template <int kSlot, class Args, void* (*kDo)(Args&)>
void put(Table& table) {
  if (control.missing != kSlot) table.functions[kSlot] = enter<kSlot, Args, kDo>;
}

void fill(Table& table) {
  table.size = std::vector<size_t>{808, 984, 1120, 1144}[column()];
  table.minor = control.reported != 0 ? control.reported : version();
  put<0, ObjectArgs, destroy<Failure>>(table);
  put<1, ListArgs, error_message>(table);
  put<2, ErrorCodeArgs, error_code>(table);
  put<3, NoArgs, nothing>(table);
  put<4, PluginAttributesArgs, attributes>(table);
  put<5, ObjectArgs, destroy<Event>>(table);
  put<8, ObjectArgs, await>(table);
  put<10, ClientCreateArgs, client_create>(table);
  put<11, ObjectArgs, destroy<Client>>(table);
  put<12, ListArgs, text>(table);
  put<14, ListArgs, text>(table);
  put<16, ListArgs, list_devices>(table);
  put<20, CompileArgs, compile>(table);
  put<22, FromHostArgs, from_host>(table);
  put<34, DeviceMemoryArgs, device_memory>(table);
  put<40, ObjectArgs, destroy<Executable>>(table);
  put<44, LookupArgs, num_outputs>(table);
  put<50, ObjectArgs, destroy<Executable>>(table);
  put<51, LookupArgs, get_executable>(table);
  put<52, ListArgs, loaded_devices>(table);
  put<55, ExecuteArgs, execute>(table);
  put<58, ObjectArgs, destroy<Buffer>>(table);
  put<70, ToHostArgs, to_host>(table);
  put<90, ListArgs, output_types>(table);
  put<91, OutputDimensionsArgs, output_dimensions>(table);
  put<96, CompiledMemoryArgs, compiled_memory>(table);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) Control* standin_control() { return &control; }

extern "C" __attribute__((visibility("default"))) const void* GetPjrtApi() {
  static std::list<Table> tables;
  if (tables.empty() || !control.same_table) fill(tables.emplace_back());
  return &tables.back();
}
