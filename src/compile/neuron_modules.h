// How do the modules of a Neuron bundle become NEFFs: here, or elsewhere and then taken in?
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/neuron/compile_modules.h"
#include "compile/compile.h"

namespace ng {

// Says what the modules will need of the device's memory and compiles them, `files` of a bundle by
// name, for options.target; nothing with emit_only. Errors of the compiler: Device.
std::vector<CompiledModule> compile_neffs(const std::vector<PlannedModule>& modules,
                                          const std::map<std::string, std::string>& files,
                                          const CompileOptions& options, Progress& progress);

// The NEFFs as files, and who made them as "compiler" of the manifest.
void add_neffs(const std::vector<CompiledModule>& programs, const NeuronOptions& options,
               BundleWriter& writer, Json& manifest);

// Every module's NEFF is there, with a header that reads, all of the manifest's compiler; or no
// module has one (emit_only). Else User.
void check_neffs(const Bundle& bundle);

// The command lines that compile a bundle's modules where the bundle was copied to, in its
// directory, with the flags for the newest compiler known.
std::string neuron_commands(const Bundle& bundle, const NeuronOptions& options);

// Takes NAME.neff of every module from the directory `neffs` into the bundle, which is written anew
// and replaced at once. A NEFF that is missing, is none, or is of another compiler than the others:
// User.
void finish_bundle(const Path& bundle, const Path& neffs, Progress& progress);

}  // namespace ng
