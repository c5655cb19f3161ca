// What of PJRT's C API is used: its functions, their structs, and the structs' sizes by version.
//
// Every struct begins with its own size, which is where its last field ends and not sizeof, and
// grows at its end. A plugin made from XLA takes what is at least as large as its own idea of the
// struct; Neuron's demands equality with the version that both sides agreed on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng::pjrt {

// Minor versions (the major one is 0) whose sizes are known. 0.56 alone orders its functions in
// another way.
inline constexpr int kOldestMinor = 55, kNewestMinor = 114, kOddMinor = 56;

// PJRT_Api: its size, extensions, version {size, extensions, major, minor}, then pointers to
// functions.
inline constexpr size_t kMajorAt = 32, kMinorAt = 36, kFunctionsAt = 40;

struct Head {
  size_t struct_size = 0;
  void* extensions = nullptr;
};

struct SizeSince {
  int minor;
  size_t size;
};

struct NoArgs {
  static constexpr SizeSince kSizes[] = {{0, 16}};
  Head head;
};
struct ObjectArgs {
  static constexpr SizeSince kSizes[] = {{0, 24}};
  Head head;
  void* object = nullptr;
};
struct LookupArgs {  // of an object: a number or another object
  static constexpr SizeSince kSizes[] = {{0, 32}};
  Head head;
  void* object = nullptr;
  uintptr_t result = 0;
};
struct ListArgs {  // of an object: its text, or a list of things
  static constexpr SizeSince kSizes[] = {{0, 40}};
  Head head;
  void* object = nullptr;
  const void* data = nullptr;
  size_t size = 0;
};
struct ErrorCodeArgs {
  static constexpr SizeSince kSizes[] = {{0, 28}};
  Head head;
  void* error = nullptr;
  int code = 0;
};

enum ErrorCode { kResourceExhausted = 8, kUnimplemented = 12 };

struct NamedValue {
  static constexpr SizeSince kSizes[] = {{0, 56}};
  enum Kind { kString, kInt64, kInt64List, kFloat, kBool };
  Head head;
  const char* name = nullptr;
  size_t name_size = 0;
  int kind = kString;
  union {
    int64_t number = 0;
    const int64_t* numbers;
  };
  size_t value_size = 0;  // items of a string or a list, else 1
};
struct PluginAttributesArgs {
  static constexpr SizeSince kSizes[] = {{0, 24}, {57, 32}};
  Head head;
  const NamedValue* attributes = nullptr;
  size_t count = 0;
};
struct ClientCreateArgs {
  static constexpr SizeSince kSizes[] = {{0, 72}, {61, 88}};
  Head head;
  const NamedValue* options = nullptr;
  size_t option_count = 0;
  void* key_value_store[4] = {};
  void* client = nullptr;
  void* more_key_value_store[2] = {};
};
struct Program {
  static constexpr SizeSince kSizes[] = {{0, 48}};
  Head head;
  const char* code = nullptr;
  size_t code_size = 0;
  const char* format = nullptr;
  size_t format_size = 0;
};
struct CompileArgs {
  static constexpr SizeSince kSizes[] = {{0, 56}};
  Head head;
  void* client = nullptr;
  const Program* program = nullptr;
  const char* options = nullptr;
  size_t options_size = 0;
  void* executable = nullptr;
};
struct OutputDimensionsArgs {
  static constexpr SizeSince kSizes[] = {{0, 48}};
  Head head;
  void* executable = nullptr;
  size_t output_count = 0;
  const int64_t* dims = nullptr;  // of all outputs, one after the other
  const size_t* ranks = nullptr;
};
struct CompiledMemoryArgs {
  static constexpr SizeSince kSizes[] = {{0, 104}, {72, 112}, {90, 120}, {104, 144}};
  Head head;
  void* executable = nullptr;
  int64_t code = 0, arguments = 0, outputs = 0, aliases = 0, temporaries = 0;
  int64_t host_and_peaks[10] = {};
};
struct DeviceMemoryArgs {
  static constexpr SizeSince kSizes[] = {{0, 185}, {113, 201}};
  Head head;
  void* device = nullptr;
  int64_t in_use = 0, peak = 0;
  bool has_peak = false;
  int64_t allocations[4] = {};
  int64_t limit = 0;
  bool has_limit = false;
  unsigned char more[112] = {};
};
struct Layout {  // PJRT_Buffer_MemoryLayout, tiled without tiles
  static constexpr SizeSince kSizes[] = {{0, 76}};
  struct Tiled {
    static constexpr SizeSince kSizes[] = {{0, 56}};
    Head head;
    const int64_t* minor_to_major = nullptr;
    size_t rank = 0;
    const int64_t* tiles = nullptr;
    const size_t* tile_ranks = nullptr;
    size_t tile_count = 0;
  };
  Head head;
  Tiled tiled;
  int kind = 0;
};
struct FromHostArgs {
  static constexpr SizeSince kSizes[] = {{0, 120}};
  enum Semantics { kOnlyDuringCall, kUntilTransferCompletes };
  Head head;
  void* client = nullptr;
  const void* data = nullptr;
  int type = 0;
  const int64_t* dims = nullptr;
  size_t rank = 0;
  const int64_t* strides = nullptr;
  size_t stride_count = 0;
  int semantics = 0;
  void* device = nullptr;
  void* memory = nullptr;
  Layout* layout = nullptr;
  void* done = nullptr;
  void* buffer = nullptr;
};
struct ToHostArgs {
  static constexpr SizeSince kSizes[] = {{0, 56}};
  Head head;
  void* buffer = nullptr;
  Layout* layout = nullptr;
  void* data = nullptr;
  size_t size = 0;
  void* event = nullptr;
};
struct ExecuteOptions {
  static constexpr SizeSince kSizes[] = {{0, 72},   {64, 80},   {76, 88},  {78, 112},
                                         {97, 120}, {108, 121}, {112, 144}};
  Head head;
  void* callbacks[2] = {};
  size_t callback_counts[2] = {};
  int launch_id = 0;
  const int64_t* not_donated = nullptr;
  size_t not_donated_count = 0;
  void* context_and_tasks[6] = {};
  bool major_to_minor = false;
  void* output_callbacks = nullptr;
  size_t output_callback_count = 0;
};
struct ExecuteArgs {
  static constexpr SizeSince kSizes[] = {{0, 80}};
  Head head;
  void* executable = nullptr;
  ExecuteOptions* options = nullptr;
  void* const* const* arguments = nullptr;  // [devices][arguments]
  size_t device_count = 0;
  size_t argument_count = 0;
  void** const* outputs = nullptr;  // [devices][outputs], filled
  void** events = nullptr;          // [devices], filled
  void* device = nullptr;
};

#define NG_PJRT_AT(Struct, field, offset) static_assert(offsetof(Struct, field) == (offset))
NG_PJRT_AT(ObjectArgs, object, 16);
NG_PJRT_AT(LookupArgs, result, 24);
NG_PJRT_AT(ListArgs, data, 24);
NG_PJRT_AT(ListArgs, size, 32);
NG_PJRT_AT(ErrorCodeArgs, code, 24);
NG_PJRT_AT(NamedValue, name_size, 24);
NG_PJRT_AT(NamedValue, kind, 32);
NG_PJRT_AT(NamedValue, number, 40);
NG_PJRT_AT(NamedValue, value_size, 48);
NG_PJRT_AT(PluginAttributesArgs, attributes, 16);
NG_PJRT_AT(PluginAttributesArgs, count, 24);
NG_PJRT_AT(ClientCreateArgs, option_count, 24);
NG_PJRT_AT(ClientCreateArgs, client, 64);
NG_PJRT_AT(ClientCreateArgs, more_key_value_store, 72);
NG_PJRT_AT(Program, format_size, 40);
NG_PJRT_AT(CompileArgs, options_size, 40);
NG_PJRT_AT(CompileArgs, executable, 48);
NG_PJRT_AT(OutputDimensionsArgs, output_count, 24);
NG_PJRT_AT(OutputDimensionsArgs, ranks, 40);
NG_PJRT_AT(CompiledMemoryArgs, arguments, 32);
NG_PJRT_AT(CompiledMemoryArgs, aliases, 48);
NG_PJRT_AT(CompiledMemoryArgs, temporaries, 56);
NG_PJRT_AT(DeviceMemoryArgs, has_peak, 40);
NG_PJRT_AT(DeviceMemoryArgs, limit, 80);
NG_PJRT_AT(DeviceMemoryArgs, has_limit, 88);
NG_PJRT_AT(Layout, tiled, 16);
NG_PJRT_AT(Layout::Tiled, minor_to_major, 16);
NG_PJRT_AT(Layout::Tiled, tile_count, 48);
NG_PJRT_AT(Layout, kind, 72);
NG_PJRT_AT(FromHostArgs, type, 32);
NG_PJRT_AT(FromHostArgs, semantics, 72);
NG_PJRT_AT(FromHostArgs, layout, 96);
NG_PJRT_AT(FromHostArgs, buffer, 112);
NG_PJRT_AT(ToHostArgs, data, 32);
NG_PJRT_AT(ToHostArgs, event, 48);
NG_PJRT_AT(ExecuteOptions, launch_id, 48);
NG_PJRT_AT(ExecuteOptions, not_donated, 56);
NG_PJRT_AT(ExecuteOptions, context_and_tasks, 72);
NG_PJRT_AT(ExecuteOptions, major_to_minor, 120);
NG_PJRT_AT(ExecuteOptions, output_callback_count, 136);
NG_PJRT_AT(ExecuteArgs, arguments, 32);
NG_PJRT_AT(ExecuteArgs, outputs, 56);
NG_PJRT_AT(ExecuteArgs, device, 72);
#undef NG_PJRT_AT

// Where a version's struct ends.
template <class Struct>
constexpr size_t size_in(int minor) {
  size_t size = 0;
  for (const SizeSince& since : Struct::kSizes) {
    if (since.minor <= minor) size = since.size;
  }
  return size;
}
static_assert(size_in<ClientCreateArgs>(kNewestMinor) == sizeof(ClientCreateArgs));
static_assert(size_in<CompiledMemoryArgs>(kNewestMinor) == sizeof(CompiledMemoryArgs));
static_assert(size_in<ExecuteOptions>(kNewestMinor) == sizeof(ExecuteOptions));
static_assert(size_in<DeviceMemoryArgs>(kNewestMinor) == offsetof(DeviceMemoryArgs, more) + 112);

// A function: where it stands in PJRT_Api, what it takes. All but two give an error or null.
template <class Args>
struct Function {
  int slot;
  const char* name;
};
inline constexpr Function<ObjectArgs> kErrorDestroy{0, "PJRT_Error_Destroy"};
inline constexpr Function<ListArgs> kErrorMessage{1, "PJRT_Error_Message"};
inline constexpr Function<ErrorCodeArgs> kErrorGetCode{2, "PJRT_Error_GetCode"};
inline constexpr Function<NoArgs> kPluginInitialize{3, "PJRT_Plugin_Initialize"};
inline constexpr Function<PluginAttributesArgs> kPluginAttributes{4, "PJRT_Plugin_Attributes"};
inline constexpr Function<ObjectArgs> kEventDestroy{5, "PJRT_Event_Destroy"};
inline constexpr Function<ObjectArgs> kEventAwait{8, "PJRT_Event_Await"};
inline constexpr Function<ClientCreateArgs> kClientCreate{10, "PJRT_Client_Create"};
inline constexpr Function<ObjectArgs> kClientDestroy{11, "PJRT_Client_Destroy"};
inline constexpr Function<ListArgs> kPlatformName{12, "PJRT_Client_PlatformName"};
inline constexpr Function<ListArgs> kPlatformVersion{14, "PJRT_Client_PlatformVersion"};
inline constexpr Function<ListArgs> kClientDevices{16, "PJRT_Client_AddressableDevices"};
inline constexpr Function<CompileArgs> kCompile{20, "PJRT_Client_Compile"};
inline constexpr Function<FromHostArgs> kFromHost{22, "PJRT_Client_BufferFromHostBuffer"};
inline constexpr Function<DeviceMemoryArgs> kDeviceMemory{34, "PJRT_Device_MemoryStats"};
inline constexpr Function<ObjectArgs> kExecutableDestroy{40, "PJRT_Executable_Destroy"};
inline constexpr Function<LookupArgs> kNumOutputs{44, "PJRT_Executable_NumOutputs"};
inline constexpr Function<ObjectArgs> kLoadedDestroy{50, "PJRT_LoadedExecutable_Destroy"};
inline constexpr Function<LookupArgs> kGetExecutable{51, "PJRT_LoadedExecutable_GetExecutable"};
inline constexpr Function<ListArgs> kLoadedDevices{52, "PJRT_LoadedExecutable_AddressableDevices"};
inline constexpr Function<ExecuteArgs> kExecute{55, "PJRT_LoadedExecutable_Execute"};
inline constexpr Function<ObjectArgs> kBufferDestroy{58, "PJRT_Buffer_Destroy"};
inline constexpr Function<ToHostArgs> kToHost{70, "PJRT_Buffer_ToHostBuffer"};
inline constexpr Function<ListArgs> kOutputTypes{90, "PJRT_Executable_OutputElementTypes"};
inline constexpr Function<OutputDimensionsArgs> kOutputDimensions{
    91, "PJRT_Executable_OutputDimensions"};
inline constexpr Function<CompiledMemoryArgs> kCompiledMemory{
    96, "PJRT_Executable_GetCompiledMemoryStats"};

// PJRT_Buffer_Type, which is not numbered as HLO's element types are.
enum BufferType { kBufferS32 = 4, kBufferF32 = 11, kBufferBf16 = 13 };

}  // namespace ng::pjrt
