#include "backends/pjrt/client.h"

#include <numeric>

#include "base/error.h"

namespace ng::pjrt {
namespace {

int buffer_type(const Type& type) {
  NG_CHECK(!type.counted(), "a buffer of {}", to_string(type));
  switch (type.dtype) {
    case DType::f32: return kBufferF32;
    case DType::bf16: return kBufferBf16;
    case DType::s32: return kBufferS32;
    default: break;
  }
  NG_CHECK(false, "a buffer of {}", to_string(type));
}

std::optional<DType> dtype_of(int type) {
  switch (type) {
    case kBufferF32: return DType::f32;
    case kBufferBf16: return DType::bf16;
    case kBufferS32: return DType::s32;
    default: return std::nullopt;
  }
}

// xla.CompileOptionsProto: executable_build_options {device_ordinal -1 (unset), num_replicas,
// num_partitions 1}. The devices are the plugin's default assignment.
std::string compile_options(int replicas) {
  NG_CHECK(replicas >= 1 && replicas < 128, "{} replicas", replicas);  // one byte of a varint
  std::string options("\x1A\x0F\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x20\x01\x28\x01", 17);
  options[14] = static_cast<char>(replicas);
  return options;
}

}  // namespace

Client::Client(const std::string& library, int devices)
    : plugin_(library), client_(create(devices)) {
  const std::span<void* const> found = devices_of(kClientDevices, client_.get());
  if (found.size() < static_cast<size_t>(devices)) {
    plugin_.fail(fmt::format("it has {} devices, {} are needed", found.size(), devices));
  }
  devices_.assign(found.begin(), found.begin() + devices);
}

// XLA's CPU plugin makes as many devices as asked for, if asked; no other knows that option.
Handle Client::create(int devices) const {
  constexpr std::string_view kCount = "cpu_device_count";
  NamedValue count;
  plugin_.stamp(count);
  count.name = kCount.data();
  count.name_size = kCount.size();
  count.kind = NamedValue::kInt64;
  count.number = devices;
  count.value_size = 1;
  ClientCreateArgs args;
  args.options = &count;
  args.option_count = plugin_.is_neuron() ? 0 : 1;
  try {
    plugin_.call(kClientCreate, args);
  } catch (const Error& error) {
    if (std::string_view(error.what()).find(kCount) == std::string_view::npos) throw;
    args = {};
    plugin_.call(kClientCreate, args);
  }
  return plugin_.own(kClientDestroy, args.client, kClientCreate.name);
}

std::span<void* const> Client::devices_of(const Function<ListArgs>& function, void* object) const {
  ListArgs args;
  args.object = object;
  plugin_.call(function, args);
  return {static_cast<void* const*>(args.data), args.data == nullptr ? 0 : args.size};
}

Compiled Client::compile(std::string_view format, std::string_view code, int replicas) const {
  Program program;
  plugin_.stamp(program);
  program.code = code.data();
  program.code_size = code.size();
  program.format = format.data();
  program.format_size = format.size();
  const std::string options = compile_options(replicas);
  CompileArgs args;
  args.client = client_.get();
  args.program = &program;
  args.options = options.data();
  args.options_size = options.size();
  plugin_.call(kCompile, args);
  Compiled compiled;
  compiled.loaded = plugin_.own(kLoadedDestroy, args.executable, kCompile.name);

  const std::span<void* const> on = devices_of(kLoadedDevices, compiled.loaded.get());
  NG_CHECK(devices_.size() >= static_cast<size_t>(replicas), "{} replicas", replicas);
  if (!std::equal(on.begin(), on.end(), devices_.begin(), devices_.begin() + replicas)) {
    plugin_.fail("it compiled for other devices than the client's first ones");
  }
  LookupArgs inner;
  inner.object = compiled.loaded.get();
  plugin_.call(kGetExecutable, inner);
  const Handle executable =
      plugin_.own(kExecutableDestroy, reinterpret_cast<void*>(inner.result), kGetExecutable.name);
  describe_outputs(executable.get(), compiled);
  CompiledMemoryArgs memory;
  memory.executable = executable.get();
  if (plugin_.call_if_there(kCompiledMemory, memory)) {
    compiled.memory = {memory.arguments, memory.outputs, memory.aliases, memory.temporaries};
  }
  return compiled;
}

void Client::describe_outputs(void* executable, Compiled& compiled) const {
  LookupArgs count;
  count.object = executable;
  plugin_.call(kNumOutputs, count);
  compiled.outputs = count.result;
  ListArgs types;
  types.object = executable;
  OutputDimensionsArgs shapes;
  shapes.executable = executable;
  if (!plugin_.call_if_there(kOutputTypes, types)) return;
  if (!plugin_.call_if_there(kOutputDimensions, shapes)) return;
  if (types.size != count.result || shapes.output_count != count.result) {
    plugin_.fail(fmt::format("a module has {} outputs, types of {}, shapes of {}", count.result,
                             types.size, shapes.output_count));
  }
  std::vector<Type> all;
  const int64_t* dims = shapes.dims;
  for (size_t i = 0; i < types.size; ++i) {
    const int number = static_cast<const int*>(types.data)[i];
    const std::optional<DType> dtype = dtype_of(number);
    if (!dtype) plugin_.fail(fmt::format("output {} has PJRT's buffer type {}", i, number));
    all.push_back({*dtype, Shape(dims, dims + shapes.ranks[i])});
    dims += shapes.ranks[i];
  }
  compiled.output_types = std::move(all);
}

Handle Client::upload(const Type& type, const std::byte* data, size_t device) const {
  std::vector<int64_t> dims;
  for (const Dim& dim : type.shape) dims.push_back(dim.size);
  FromHostArgs args;
  args.client = client_.get();
  args.data = data;
  args.type = buffer_type(type);
  args.dims = dims.data();
  args.rank = dims.size();
  args.semantics = FromHostArgs::kUntilTransferCompletes;
  args.device = devices_.at(device);
  plugin_.call(kFromHost, args);
  Handle buffer(args.buffer, Release{&plugin_, &kBufferDestroy});
  plugin_.wait(args.done);
  if (buffer == nullptr) plugin_.fail(fmt::format("{} gave nothing", kFromHost.name));
  return buffer;
}

void Client::download(const Handle& buffer, const Type& type, std::byte* data) const {
  std::vector<int64_t> order(type.shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  Layout row_major;
  plugin_.stamp(row_major);
  plugin_.stamp(row_major.tiled);
  row_major.tiled.minor_to_major = order.data();
  row_major.tiled.rank = order.size();
  ToHostArgs args;
  args.buffer = buffer.get();
  args.layout = &row_major;
  args.data = data;
  args.size = static_cast<size_t>(byte_count(type));
  plugin_.call(kToHost, args);
  plugin_.wait(args.event);
}

std::vector<std::vector<Handle>> Client::execute(
    const Compiled& compiled, std::span<const std::vector<void*>> arguments) const {
  NG_CHECK(!arguments.empty(), "no device");
  const size_t devices = arguments.size();
  std::vector<std::vector<void*>> found(devices, std::vector<void*>(compiled.outputs));
  std::vector<void* const*> argument_lists;
  std::vector<void**> output_lists;
  for (size_t i = 0; i < devices; ++i) {
    NG_CHECK(arguments[i].size() == arguments[0].size(), "device {} has other arguments", i);
    argument_lists.push_back(arguments[i].data());
    output_lists.push_back(found[i].data());
  }
  std::vector<void*> events(devices);
  ExecuteOptions options;
  plugin_.stamp(options);
  ExecuteArgs args;
  args.executable = compiled.loaded.get();
  args.options = &options;
  args.arguments = argument_lists.data();
  args.device_count = devices;
  args.argument_count = arguments[0].size();
  args.outputs = output_lists.data();
  args.events = events.data();
  plugin_.call(kExecute, args);

  std::vector<Handle> done;  // all owned before any is waited for
  for (void* event : events) done.emplace_back(event, Release{&plugin_, &kEventDestroy});
  std::vector<std::vector<Handle>> results(devices);
  for (size_t i = 0; i < devices; ++i) {
    for (void* one : found[i]) {
      results[i].emplace_back(one, Release{&plugin_, &kBufferDestroy});
    }
  }
  for (Handle& event : done) plugin_.wait(event.release());
  for (void* one : found[0]) {
    if (one == nullptr) plugin_.fail(fmt::format("{} gave nothing", kExecute.name));
  }
  return results;
}

std::optional<DeviceMemory> Client::memory(size_t device) const {
  DeviceMemoryArgs args;
  args.device = devices_.at(device);
  if (!plugin_.call_if_there(kDeviceMemory, args)) return std::nullopt;
  DeviceMemory memory{args.in_use, std::nullopt, std::nullopt};
  if (args.has_peak) memory.peak = args.peak;
  if (args.has_limit) memory.limit = args.limit;
  return memory;
}

std::string Client::text(const Function<ListArgs>& function) const {
  ListArgs args;
  args.object = client_.get();
  plugin_.call(function, args);
  if (args.data == nullptr) return "";
  return shown({static_cast<const char*>(args.data), args.size});
}

std::string Client::description() const {
  return fmt::format("{}, {}, {}", text(kPlatformName), plugin_.description(),
                     text(kPlatformVersion));
}

}  // namespace ng::pjrt
