// How does a checkpoint become a bundle?
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/progress.h"
#include "bundle/bundle.h"
#include "checkpoint/checkpoint.h"
#include "compile/static_modules.h"

namespace ng {

// How a module becomes a NEFF (backends/neuron/compile_modules.h).
struct NeuronOptions {
  std::string compiler;            // a path, or a name that $PATH has; empty: neuronx-cc
  bool emit_only = false;          // modules alone: they are compiled elsewhere
  int jobs = 1;                    // compilers at a time
  std::vector<std::string> extra;  // words for the compiler
};

struct CompileOptions {
  std::set<std::string> targets = {"cpu"};
  StaticOptions modules;     // of static targets; their dtype is the one below
  NeuronOptions neuron;      // of Neuron targets
  DType dtype = DType::f32;  // f32 or bf16: of the matrices
  bool force = false;        // an existing bundle is replaced
  int threads = 0;           // 0: available_threads()
  // SHA-256 of source files by name, where the caller knows them.
  std::map<std::string, std::string> known_hashes;
  // Called with the bytes that are about to be written, before they are.
  std::function<void(uint64_t bytes)> make_room;
  // A bundle whose artifacts must be those that are made here, and whose NEFFs are kept
  // (replace_weights.h).
  const Bundle* kept = nullptr;
};

// What is made for each target: target → the file's name → its bytes.
using Artifacts = std::map<std::string, std::map<std::string, std::string>>;

// The modules that `options` ask for, checked, in the type that they ask for.
StaticOptions module_options(const CompileOptions& options);

// What a bundle was compiled with, as far as it decides tensors, graphs and modules; no NEFFs.
CompileOptions options_of(const Bundle& bundle);

// The capacities that bundles for targets with memory by request are made with (docs/bundle.md).
Sizes capacities(const Model& model);

// Every file of the checkpoint's directory that decides what its bundle holds, sorted by name.
std::vector<Checkpoint::Source> source_files(const Checkpoint& checkpoint);

// SHA-256 of a whole file, read in blocks.
std::string hash_file(const Path& path, Progress& progress);

// What is known of the licence of the weights, as a line for people.
std::string licence(const Checkpoint& checkpoint);

// Writes the bundle to `out`, where it appears complete or not at all. The same checkpoint, options
// and build give the same bytes.
void compile(const Checkpoint& checkpoint, const CompileOptions& options, const Path& out,
             Progress& progress);

// A target's graph text of a phase, once it is known to fit what the manifest says of the model:
// every id of the vocabulary has a row in the embedding and a score, and padding is the same id.
// Else User.
std::string checked_artifact(const Bundle& bundle, std::string_view phase,
                             const std::string& target);
// The same of a module of a target with fixed shapes, which has the manifest's sizes, too.
std::string_view checked_module(const Bundle& bundle, const Bundle::Module& module,
                                const std::string& target);

// Opens the bundle and hashes every byte, parses every graph and the tokenizer, and finds every
// weight that a graph names. User error: the first thing that is wrong, by name.
void check_bundle(const Path& path, Progress& progress);

}  // namespace ng
