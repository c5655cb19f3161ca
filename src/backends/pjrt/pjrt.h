// Modules on any accelerator that has a PJRT plugin.
#pragma once

#include "backends/backend.h"

namespace ng {

// What a plugin's compiler is given: the HloModuleProto as it is, or StableHLO made from it. `any`
// is hlo, or mlir where the plugin does not know the format hlo.
enum class PjrtFormat : uint8_t { any, hlo, mlir };

struct PjrtOptions {
  std::string plugin;  // the shared library
  PjrtFormat format = PjrtFormat::any;
  int ranks = 1;  // devices that run a module together
};

// The first devices of a plugin, as many as there are ranks. load() takes what emit_hlo() wrote
// (backends/xla/emit_hlo.h). Its executables are destroyed before it and run one at a time; run()
// takes and gives exactly the module's types. Weights are uploaded once, by name; a state is zeros
// at first, lives on the device, and is one for all executables that name it: no Port. So is an
// input that a module loaded earlier has as a state of that type: cross-attention reads what
// encoders write.
class PjrtDevice : public Device {
 public:
  virtual std::vector<int64_t> runs() const = 0;  // of each module, in the order of load()
};

// A library that is missing, no plugin, or too old, and whatever a plugin says: Device.
std::unique_ptr<PjrtDevice> open_pjrt(const PjrtOptions& options);

}  // namespace ng
