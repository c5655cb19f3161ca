// What does a client of a PJRT plugin do: compile, hold buffers, execute?
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/pjrt/plugin.h"
#include "tensor/tensor.h"

namespace ng::pjrt {

// Bytes on one device.
struct CompiledMemory {
  int64_t arguments = 0, outputs = 0, aliases = 0, temporaries = 0;
};
struct DeviceMemory {
  int64_t in_use = 0;
  std::optional<int64_t> peak, limit;
};

// A compiled module, for as many devices as it has replicas. What the plugin does not say is
// absent.
struct Compiled {
  Handle loaded;
  size_t outputs = 0;
  std::optional<std::vector<Type>> output_types;
  std::optional<CompiledMemory> memory;
};

// Devices of one plugin. Handles that it gave are destroyed before it. One caller a device.
class Client {
 public:
  // More devices than there are: Device.
  Client(const std::string& library, int devices);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // `format`: "hlo" (a serialized HloModuleProto) or "mlir" (StableHLO). Replica i runs on device
  // i.
  Compiled compile(std::string_view format, std::string_view code, int replicas) const;

  // Row-major f32, bf16 or s32. The bytes are free again on return.
  Handle upload(const Type& type, const std::byte* data, size_t device) const;
  void download(const Handle& buffer, const Type& type, std::byte* data) const;

  // arguments[device], in the order of the module's parameters; the result is [device][output].
  // Waits. Buffers that the module aliases are used up, to be destroyed still, also when it fails.
  std::vector<std::vector<Handle>> execute(const Compiled& compiled,
                                           std::span<const std::vector<void*>> arguments) const;

  std::optional<DeviceMemory> memory(size_t device) const;
  // "cpu, PJRT 0.104, …": platform, API, the platform's version.
  std::string description() const;

 private:
  Handle create(int devices) const;
  std::span<void* const> devices_of(const Function<ListArgs>& function, void* object) const;
  std::string text(const Function<ListArgs>& function) const;
  void describe_outputs(void* executable, Compiled& compiled) const;

  const Plugin plugin_;
  const Handle client_;
  std::vector<void*> devices_;
};

}  // namespace ng::pjrt
