// A model ready to run, from a bundle or, through the cache, from a checkpoint directory.
#pragma once

#include <memory>
#include <optional>

#include "bundle/bundle.h"
#include "compile/cache.h"
#include "text/tokenizer.h"
#include "tools/options.h"
#include "translate/buckets.h"
#include "translate/generation_options.h"
#include "translate/session.h"

namespace ng {

struct Opened {
  std::optional<CachedBundle> cached;  // keeps it in use
  Bundle bundle;
  std::unique_ptr<Device> device;
  std::unique_ptr<Device> cpu;             // of a static target's segments that are its
  HostStates states;                       // of these
  std::unique_ptr<Executions> executions;  // of a static target's modules
  std::unique_ptr<Session> session;
  GenerationOptions defaults;
  double load_seconds = 0;
};

CompileOptions compile_options(const Options& options);

// A --dtype or --target that is given and not the bundle's: User.
void check_as_compiled(const Options& options, const Bundle& bundle);

// The bundle that options.model is, or that it compiles to; then `cached` keeps it in use.
Bundle open_bundle(const Options& options, std::optional<CachedBundle>& cached);

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
  std::string device;     // Device::description()
  Executions executions;  // of a static target's modules, loading and warm-up included
  std::map<std::string, std::string> backends = {};  // who ran each of these
};
void note_runs(const Opened& opened, Stats& stats);  // the last three
void write_stats(const Options& options, const Stats& stats);

double seconds_now();  // of a steady clock

}  // namespace ng
