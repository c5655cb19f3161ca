// How do the modules of a Neuron bundle become NEFFs: here, or elsewhere and then taken in?
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/neuron/compile_modules.h"
#include "compile/compile.h"
#include "compile/module_cost.h"

namespace ng {

using Programs = std::map<std::string, std::vector<CompiledModule>>;  // by target

// Says what the modules will need of the device's memory and compiles them for each Neuron target
// of options.targets; nothing with emit_only. Errors of the compiler: Device.
Programs compile_neffs(const std::vector<PlannedModule>& modules, const Artifacts& artifacts,
                       const DeviceMemory& memory, const CompileOptions& options,
                       Progress& progress);

// The NEFFs as files, and who made them, or is to, as "compiler" of the manifest: one compiler with
// its `arguments`, all of them.
void add_neffs(const Programs& programs, const Json& arguments, BundleWriter& writer,
               Json& manifest);

// The NEFFs of another bundle, and what its manifest says of them.
void keep_neffs(const Bundle& bundle, BundleWriter& writer, Json& manifest);

// Every module's NEFF is there for every Neuron target, with a header that reads, all of the
// manifest's compiler; or none is (emit_only). Else User.
void check_neffs(const Bundle& bundle);

// The command lines that compile a bundle's modules where the bundle was copied to, in its
// directory, with the flags for the newest compiler known.
std::string neuron_commands(const Bundle& bundle, const NeuronOptions& options);

// Takes NAME.neff of every module (NAME.TARGET.neff where the bundle has several Neuron targets)
// from the directory `neffs` into the bundle, which is written anew and replaced at once. A NEFF
// that is missing, is none, or is of another compiler than the others: User.
void finish_bundle(const Path& bundle, const Path& neffs, Progress& progress);

}  // namespace ng
