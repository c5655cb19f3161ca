#include "tools/opened.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <sstream>

#include "base/error.h"
#include "base/machine.h"
#include "base/process.h"
#include "bundle/format.h"
#include "compile/bundle_session.h"

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
    check(error == std::errc() && stop == part.data() + part.size() && !text.ends_with(','),
          "{} {}: whole numbers with commas between them", flag, shown(text));
    found.push_back(value);
  }
  return found;
}

// Which of the two words? Another one: User.
bool second(const char* flag, const std::string& text, const char* no, const char* yes) {
  check(text == no || text == yes, "{} {}: {} or {}", flag, shown(text), no, yes);
  return text == yes;
}

// "cpu", "pjrt:PLUGIN.so", "neuron"
struct DeviceName {
  std::string kind, plugin;
};
DeviceName device_of(const std::string& text) {
  const size_t colon = text.find(':');
  DeviceName name{text.substr(0, colon), colon == std::string::npos ? "" : text.substr(colon + 1)};
  const std::set<std::string> plain = {"cpu", "reference", "neuron", "emulated"};
  check(plain.contains(text) || (name.kind == "pjrt" && !name.plugin.empty()),
        "--device {}: cpu, reference, pjrt:PLUGIN.so, neuron or emulated", shown(text));
  return name;
}

// NEFFs by the names of their modules; all are there.
ProgramSource programs_of(const Bundle& bundle, const std::string& target) {
  for (const Bundle::Module& module : bundle.modules()) {
    check(module.cpu || bundle.has_file(bundle.file_of(program_file(module.name), target)),
          "{}: its modules are not compiled (--emit-only): neuroglot finish {} --neffs DIR, or "
          "compile again without it",
          bundle.path().string(), bundle.path().string());
  }
  return [&bundle, target](const std::string& module) {
    return std::as_bytes(std::span(bundle.file(program_file(module), target)));
  };
}

std::string listed(const std::set<std::string>& names) {
  return shown(fmt::format("{}", fmt::join(names, ", ")));
}

// The target whose device options name, or the bundle's only one, and how to open it.
DeviceOptions choose_device(const Options& options, const Bundle& bundle, std::string& target) {
  const DeviceName named = options.device.empty() ? DeviceName{} : device_of(options.device);
  const bool on_neuron = named.kind == "neuron" || named.kind == "emulated";
  target = only_target(options, bundle, [&](const Target& one) {
    return named.kind.empty() || (one.neuron ? on_neuron : one.name == named.kind);
  });
  check(!target.empty(),
        "--device {}: {} was compiled for {}: take a device of these (neuron or emulated for inf2, "
        "trn1 and trn2) and of --target, if given, or compile the checkpoint with --target {}",
        shown(options.device), bundle.path().string(), listed(bundle.targets()),
        on_neuron ? "inf2, trn1 or trn2" : shown(named.kind));
  check(target != "pjrt" || !named.plugin.empty(),
        "{} was compiled for pjrt: say which plugin runs it with --device pjrt:PLUGIN.so",
        bundle.path().string());
  const bool neuron = is_neuron(target);
  check(options.libnrt.empty() || (neuron && named.kind != "emulated"),
        "--libnrt is of --device neuron");
  return {.threads = static_cast<int>(options.threads),
          .library = neuron ? options.libnrt : named.plugin,
          .ranks = static_cast<int>(bundle.sizes().ranks),
          .emulated = named.kind == "emulated",
          .programs = neuron ? programs_of(bundle, target) : ProgramSource()};
}

Opened::Running& add_device(Opened& opened, const std::string& target,
                            const DeviceOptions& device) {
  auto running = std::make_unique<Opened::Running>();
  running->device = find_backend(target).open(device);
  return *opened.devices.emplace_back(std::move(running));
}

// The sessions of the bundle's target: as many as there are devices, the first one at once.
void open_replicas(Opened& opened, const DeviceOptions& options) {
  Opened::Running& first = add_device(opened, opened.target, options);
  const auto open = [&opened, &first, options](size_t i) {
    DeviceOptions own = options;
    own.core = static_cast<int>(i);
    Opened::Running& on = i == 0 ? first : add_device(opened, opened.target, own);
    on.cpu = open_cpu_of(opened.bundle, opened.target, options.threads);
    return open_session(opened.bundle, opened.target, {*on.device, on.cpu.get()}, on.executions);
  };
  opened.replicas = std::make_unique<Replicas>(static_cast<size_t>(first.device->replicas()), open);
  opened.session();
}

// --long cpu: sources that no module takes run on the CPU.
void open_long(const Options& options, Opened& opened) {
  const std::string& where = options.long_sources;
  check(where == "cut" || where == "cpu" || where == "error", "--long {}: cut, cpu or error",
        shown(where));
  if (where != "cpu" || opened.session().sizes().source == 0) return;
  check(opened.bundle.targets().contains("cpu"),
        "--long cpu: {} was compiled for {}: compile it with --target cpu besides",
        opened.bundle.path().string(), listed(opened.bundle.targets()));
  opened.replicas->set_long([&opened, threads = static_cast<int>(options.threads)] {
    Opened::Running& cpu = add_device(opened, "cpu", {.threads = threads});
    return open_session(opened.bundle, "cpu", {*cpu.device}, cpu.executions);
  });
}

}  // namespace

std::unique_ptr<Device> open_device(const Options& options, const Bundle& bundle,
                                    std::string& target) {
  const DeviceOptions device = choose_device(options, bundle, target);
  return find_backend(target).open(device);
}

bool is_neuron(const std::string& target) { return find_backend(target).target.neuron; }

double seconds_now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

CompileOptions compile_options(const Options& options) {
  CompileOptions compile;
  const bool by_device = !options.device.empty() && !options.is_given("--target");
  compile.targets = {options.targets.begin(), options.targets.end()};
  if (by_device) compile.targets = {device_of(options.device).kind};
  compile.modules.batches = numbers("--batch", options.batches);
  compile.modules.source_lengths = numbers("--source-lengths", options.source_lengths);
  compile.modules.beams = options.beams;
  compile.modules.ranks = options.tp;
  compile.modules.target_length = options.target_length;
  compile.modules.device_candidates = !second("--topk", options.topk, "device", "host");
  compile.modules.reorder = second("--beam-caches", options.beam_caches, "history", "reorder");
  compile.modules.with_logits = options.with_logits;
  std::istringstream ops(options.cpu_ops);
  for (std::string op; std::getline(ops, op, ',');) compile.modules.cpu_ops.insert(op);
  compile.modules.min_subgraph_size = options.min_subgraph_size;
  compile.modules.max_subgraph_count = options.max_subgraph_count;
  compile.dtype = second("--dtype", options.dtype, "f32", "bf16") ? DType::bf16 : DType::f32;
  compile.force = options.force;
  compile.neuron = {options.neuronx_cc, options.emit_only, static_cast<int>(options.jobs),
                    split_words(options.compiler_args, "--compiler-args")};
  compile.threads = static_cast<int>(options.threads);
  return compile;
}

void check_as_compiled(const Options& options, const Bundle& bundle) {
  const auto refuse = [&](const char* flag, const std::string& asked, std::string_view has) {
    fail("{} {}: {} is a bundle, compiled with {}: leave {} out, or compile again", flag,
         shown(asked), options.model, has, flag);
  };
  const std::string_view dtype = name(bundle.dtype());
  if (options.is_given("--dtype") && options.dtype != dtype)
    refuse("--dtype", options.dtype, dtype);
  for (const std::string& target : options.targets) {
    const bool there = !options.is_given("--target") || bundle.targets().contains(target);
    if (!there) refuse("--target", target, listed(bundle.targets()));
  }
  check(options.shapes.empty(),
        "{}: {} is a bundle, compiled already: leave it out, or compile again",
        fmt::join(options.shapes, ", "), options.model);
}

std::string only_target(const Options& options, const Bundle& bundle,
                        const std::function<bool(const Target&)>& fits) {
  std::set<std::string> found;
  for (const std::string& target : bundle.targets()) {
    const bool meant =
        !options.is_given("--target") || std::ranges::count(options.targets, target) > 0;
    if (meant && fits(find_backend(target).target)) found.insert(target);
  }
  check(found.size() < 2,
        "{}: was compiled for {}: say which is meant with --target (or --device, to run it)",
        bundle.path().string(), listed(found));
  return found.empty() ? "" : *found.begin();
}

Bundle open_bundle(const Options& options, std::optional<CachedBundle>& cached) {
  if (is_bundle(options.model)) {
    Bundle bundle = Bundle::open(options.model);
    check_as_compiled(options, bundle);
    return bundle;
  }
  const CompileOptions compile = compile_options(options);
  const bool neuron = std::ranges::any_of(compile.targets, [](const std::string& target) {
    return target == "neuron" || target == "emulated" || is_neuron(target);
  });
  check(!neuron,
        "{}: for Neuron, compile it into a bundle first: neuroglot compile {} -o BUNDLE --target "
        "inf2|trn1|trn2",
        options.model, options.model);
  Progress progress(options.quiet);
  cached.emplace(cached_bundle(options.model, compile, progress));
  return cached->bundle;
}

std::unique_ptr<Opened> open_session(const Options& options) {
  const double start = seconds_now();
  std::optional<CachedBundle> cached;
  Bundle bundle = open_bundle(options, cached);
  auto opened =
      std::unique_ptr<Opened>(new Opened{std::move(cached), std::move(bundle), {}, {}, {}, {}, 0});
  open_replicas(*opened, choose_device(options, opened->bundle, opened->target));
  open_long(options, *opened);
  opened->load_seconds = seconds_now() - start;
  return opened;
}

Stats& Stats::add(const Opened& opened) {
  std::vector<std::string> names;
  for (const auto& running : opened.devices) {
    const std::string name = running->device->description();
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    for (const auto& [module, count] : running->executions) executions[module] += count;
    for (const Bundle::Module& module : opened.bundle.modules()) {
      if (!running->executions.contains(module.name)) continue;
      backends[module.name] = (module.cpu ? running->cpu : running->device)->description();
    }
  }
  device = fmt::format("{}", fmt::join(names, "; "));
  return *this;
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
