// A model ready to run, from a bundle or, through the cache, from a checkpoint directory.
#pragma once

#include <memory>
#include <optional>

#include "bundle/bundle.h"
#include "compile/cache.h"
#include "text/tokenizer.h"
#include "tools/options.h"
#include "translate/batch.h"
#include "translate/buckets.h"
#include "translate/generation_options.h"

namespace ng {

struct Opened {
  std::optional<CachedBundle> cached;  // keeps it in use
  Bundle bundle;
  std::string target;  // of the bundle's
  struct Running {
    std::unique_ptr<Device> device;
    std::unique_ptr<Device> cpu;  // of a bundle's segments on the CPU
    Executions executions;        // of a static target's modules
  };
  std::vector<std::unique_ptr<Running>> devices;  // replicas as they are needed; of --long: the CPU
  std::unique_ptr<Replicas> replicas;
  GenerationOptions defaults;
  double load_seconds = 0;

  Session& session() const { return replicas->first(); }
};

CompileOptions compile_options(const Options& options);
bool is_neuron(const std::string& target);

// Of the bundle's targets, or of those that --target names, the one that `fits`; "": none does.
// Several: User, listing them.
std::string only_target(const Options& options, const Bundle& bundle,
                        const std::function<bool(const Target&)>& fits);

// A --dtype or --target that is given and not the bundle's, and an option of fixed shapes: User.
void check_as_compiled(const Options& options, const Bundle& bundle);

// The bundle that options.model is, or that it compiles to; then `cached` keeps it in use.
Bundle open_bundle(const Options& options, std::optional<CachedBundle>& cached);

// The device that options name, or that of the bundle's only target; sets `target`.
std::unique_ptr<Device> open_device(const Options& options, const Bundle& bundle,
                                    std::string& target);

// Without the defaults of generation, which forward does not ask for.
std::unique_ptr<Opened> open_session(const Options& options);
std::unique_ptr<Opened> open_for(const Options& options);  // and with them

// Of a bundle that was compiled from a directory with tokenizer files; else User, naming them.
Tokenizer open_tokenizer(const Bundle& bundle);

// What --stats tells. Times are seconds; one entry a measured run.
struct Stats {
  double load_seconds = 0;
  std::vector<double> tokenize_seconds, generate_seconds;
  uint64_t input_tokens = 0, output_tokens = 0;
  std::string device;     // Device::description() of each, other replicas than the first aside
  Executions executions;  // of a static target's modules, loading and warm-up included
  std::map<std::string, std::string> backends = {};  // who ran each of these

  Stats& add(const Opened& opened);  // its devices and what they ran
};
void write_stats(const Options& options, const Stats& stats);

double seconds_now();  // of a steady clock

}  // namespace ng
