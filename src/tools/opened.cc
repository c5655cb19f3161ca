#include "tools/opened.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <sstream>
#include <tuple>

#include "base/error.h"
#include "base/machine.h"
#include "base/process.h"

namespace ng {
namespace {

// One number, or with --repeat the list of them.
Json times(const std::vector<double>& seconds, const Options& options) {
  if (!options.is_given("--repeat")) return seconds.at(0);
  return seconds;
}

// "1,8"
std::vector<int64_t> numbers(const char* flag, const std::string& text) {
  std::vector<int64_t> found;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    int64_t value = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    check(error == std::errc() && stop == part.data() + part.size(),
          "{} {}: whole numbers with commas between them", flag, shown(text));
    found.push_back(value);
  }
  return found;
}

// "cpu", "pjrt:PLUGIN.so", "neuron"
struct DeviceName {
  std::string kind, plugin;
};
DeviceName device_of(const std::string& text) {
  const size_t colon = text.find(':');
  DeviceName name{text.substr(0, colon), colon == std::string::npos ? "" : text.substr(colon + 1)};
  check((name.kind == "pjrt") == !name.plugin.empty() &&
            (colon == std::string::npos || name.kind == "pjrt"),
        "--device {}: cpu, reference, pjrt:PLUGIN.so, neuron or emulated", shown(text));
  return name;
}

bool is_neuron(const std::string& target) { return find_backend(target).target.neuron; }

// NEFFs by the names of their modules; all are there.
ProgramSource programs_of(const Bundle& bundle) {
  for (const Bundle::Module& module : bundle.modules()) {
    check(module.cpu || bundle.has_program(module.name),
          "{}: its modules are not compiled (--emit-only): neuroglot finish {} --neffs DIR, or "
          "compile again without it",
          bundle.path().string(), bundle.path().string());
  }
  return [&bundle](const std::string& module) {
    const std::string_view text = bundle.program(module);
    return std::as_bytes(std::span(text.data(), text.size()));
  };
}

// The device that options name, or the one that the bundle was compiled for.
std::unique_ptr<Device> open_device(const Options& options, const Bundle& bundle) {
  const std::string& target = bundle.target();
  const bool neuron = is_neuron(target);
  const DeviceName named = options.device.empty() ? DeviceName{neuron ? "neuron" : target, ""}
                                                  : device_of(options.device);
  const bool fits =
      neuron ? named.kind == "neuron" || named.kind == "emulated" : named.kind == target;
  check(fits, "--device {}: {} was compiled for {}; {}", shown(options.device),
        bundle.path().string(), target,
        neuron
            ? std::string("run it with --device neuron, or emulated")
            : fmt::format("compile the checkpoint with --target {}",
                          named.kind == "neuron" || named.kind == "emulated" ? "inf2, trn1 or trn2"
                                                                             : shown(named.kind)));
  check(target != "pjrt" || !named.plugin.empty(),
        "{} was compiled for pjrt: say which plugin runs it with --device pjrt:PLUGIN.so",
        bundle.path().string());
  check(options.libnrt.empty() || named.kind == "neuron", "--libnrt is of --device neuron");
  DeviceOptions device;
  device.threads = static_cast<int>(options.threads);
  device.library = neuron ? options.libnrt : named.plugin;
  device.emulated = named.kind == "emulated";
  if (neuron) device.programs = programs_of(bundle);
  return find_backend(target).open(device);
}

// A phase of a static target: its modules, which the device loads when they are needed.
std::unique_ptr<Executable> load_modules(Opened& opened, const std::string& phase) {
  std::vector<Bucket> buckets;
  for (const Bundle::Module& module : opened.bundle.modules()) {
    if (module.phase != phase) continue;
    if (buckets.empty() || buckets.back().name != module.part_of) {
      buckets.push_back({module.part_of, module.sentences, module.rows, {}});
    }
    const auto load = [&opened, &module, &bundle = opened.bundle] {
      const auto weights = [&bundle](const std::string& weight) { return bundle.weight(weight); };
      if (module.cpu) return opened.cpu->load(bundle.artifact(module.name), weights);
      return opened.device->load(bundle.module(module.name), weights);
    };
    buckets.back().segments.push_back({module.name, load, module.cpu ? &opened.states : nullptr});
  }
  check(!buckets.empty(), "{}: has no modules for {}: it is damaged", opened.bundle.path().string(),
        phase);
  return bucketed(phase, std::move(buckets), opened.bundle.sizes(), *opened.executions);
}

std::unique_ptr<Session> open_modules(Opened& opened) {
  StaticPhases phases;
  phases.vocabulary = opened.bundle.facts().vocabulary;
  phases.pad = opened.bundle.facts().pad;
  phases.sizes = opened.bundle.sizes();
  for (const Bundle::Module& module : opened.bundle.modules()) {
    phases.logits = phases.logits || module.phase == "logits";
  }
  phases.load = [&opened](const std::string& phase) { return load_modules(opened, phase); };
  return std::make_unique<Session>(std::move(phases));
}

}  // namespace

double seconds_now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

CompileOptions compile_options(const Options& options) {
  CompileOptions compile;
  const bool by_device = !options.device.empty() && !options.is_given("--target");
  compile.target = by_device ? device_of(options.device).kind : options.target;
  compile.modules.batches = numbers("--batch", options.batches);
  compile.modules.source_lengths = numbers("--source-lengths", options.source_lengths);
  compile.modules.beams = options.beams;
  compile.modules.target_length = options.target_length;
  check(options.topk == "device" || options.topk == "host", "--topk {}: device or host",
        shown(options.topk));
  compile.modules.device_candidates = options.topk == "device";
  compile.modules.with_logits = options.with_logits;
  std::istringstream ops(options.cpu_ops);
  for (std::string op; std::getline(ops, op, ',');) compile.modules.cpu_ops.insert(op);
  compile.modules.min_subgraph_size = options.min_subgraph_size;
  compile.modules.max_subgraph_count = options.max_subgraph_count;
  check(options.dtype == "f32" || options.dtype == "bf16", "--dtype {}: f32 or bf16",
        shown(options.dtype));
  compile.dtype = options.dtype == "bf16" ? DType::bf16 : DType::f32;
  compile.force = options.force;
  compile.neuron = {options.neuronx_cc, options.emit_only, static_cast<int>(options.jobs),
                    split_words(options.compiler_args, "--compiler-args")};
  compile.threads = static_cast<int>(options.threads);
  return compile;
}

void check_as_compiled(const Options& options, const Bundle& bundle) {
  const std::string dtype(name(bundle.dtype()));
  for (const auto& [flag, asked, has] : {std::tuple{"--dtype", options.dtype, dtype},
                                         std::tuple{"--target", options.target, bundle.target()}}) {
    check(!options.is_given(flag) || asked == has,
          "{} {}: {} is a bundle, compiled with {}: leave {} out, or compile again", flag,
          shown(asked), options.model, has, flag);
  }
}

Bundle open_bundle(const Options& options, std::optional<CachedBundle>& cached) {
  if (is_bundle(options.model)) {
    Bundle bundle = Bundle::open(options.model);
    check_as_compiled(options, bundle);
    return bundle;
  }
  const CompileOptions compile = compile_options(options);
  check(compile.target != "neuron" && compile.target != "emulated" && !is_neuron(compile.target),
        "{}: for Neuron, compile it into a bundle first: neuroglot compile {} -o BUNDLE --target "
        "inf2|trn1|trn2",
        options.model, options.model);
  Progress progress(options.quiet);
  cached.emplace(cached_bundle(options.model, compile, progress));
  return cached->bundle;
}

Phases phases_of(const Bundle& bundle) {
  return {bundle.facts().vocabulary, bundle.facts().pad,
          [&bundle](const std::string& phase) { return checked_artifact(bundle, phase); },
          [&bundle](const std::string& name) { return bundle.weight(name); }};
}

std::unique_ptr<Opened> open_session(const Options& options) {
  const double start = seconds_now();
  std::optional<CachedBundle> cached;
  Bundle bundle = open_bundle(options, cached);
  auto opened = std::unique_ptr<Opened>(
      new Opened{std::move(cached), std::move(bundle), {}, {}, {}, {}, {}, {}, 0});
  opened->device = open_device(options, opened->bundle);
  if (std::ranges::any_of(opened->bundle.modules(), &Bundle::Module::cpu)) {
    opened->cpu = find_backend("cpu").open({.threads = static_cast<int>(options.threads)});
  }
  opened->executions = std::make_unique<Executions>();
  opened->session = opened->bundle.modules().empty()
                        ? std::make_unique<Session>(phases_of(opened->bundle), *opened->device)
                        : open_modules(*opened);
  opened->load_seconds = seconds_now() - start;
  return opened;
}

std::unique_ptr<Opened> open_for(const Options& options) {
  auto opened = open_session(options);
  const Json& generation = opened->bundle.generation_config();
  opened->defaults =
      defaults_from(opened->bundle.config(), generation.is_null() ? nullptr : &generation);
  return opened;
}

Tokenizer open_tokenizer(const Bundle& bundle) {
  check(bundle.has_tokenizer() || !bundle.manifest().at("sources").contains("vocab.json"),
        "this model was compiled without a tokenizer: its directory has M2M100's vocab.json and "
        "sentencepiece.bpe.model, which are not read, and no tokenizer.json; generate and forward "
        "work without");
  check(bundle.has_tokenizer(),
        "this model was compiled without a tokenizer: its directory had neither tokenizer.json nor "
        "sentencepiece.bpe.model; add one and compile again (generate and forward work without)");
  return Tokenizer::parse(bundle.tokenizer_bytes(), "tokenizer");
}

void note_runs(const Opened& opened, Stats& stats) {
  stats.device = opened.device->description();
  stats.executions = *opened.executions;
  for (const Bundle::Module& module : opened.bundle.modules()) {
    if (!stats.executions.contains(module.name)) continue;
    stats.backends[module.name] = (module.cpu ? opened.cpu : opened.device)->description();
  }
}

void write_stats(const Options& options, const Stats& stats) {
  if (options.stats.empty()) return;
  Json json = {{"load_seconds", stats.load_seconds},
               {"tokenize_seconds", times(stats.tokenize_seconds, options)},
               {"generate_seconds", times(stats.generate_seconds, options)},
               {"input_tokens", stats.input_tokens},
               {"output_tokens", stats.output_tokens},
               {"device", stats.device},
               {"peak_rss_bytes", peak_resident_bytes()},
               {"anonymous_bytes", anonymous_bytes()}};
  if (!stats.executions.empty()) json["executions"] = stats.executions;
  if (!stats.backends.empty()) json["backends"] = stats.backends;
  write_file(options.stats, json.dump(2) + "\n");
}

}  // namespace ng
