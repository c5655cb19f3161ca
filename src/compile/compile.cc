#include "compile/compile.h"

#include <algorithm>

#include "backends/backend.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle/format.h"
#include "compile/neuron_modules.h"
#include "compile/prepare.h"
#include "compile/replace_weights.h"
#include "compile/segments.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "text/tokenizer.h"
#include "translate/generation_options.h"

namespace ng {
namespace {

struct Lowered {
  Artifacts artifacts;
  Graph prepare{"prepare"};            // of all targets: each tensor once
  std::vector<ModuleSegment> modules;  // of targets with fixed shapes
  std::vector<PlannedModule> device;   // those that a device runs, and
  DeviceMemory memory;                 // what they need
};

// A graph a phase, for any size of request.
void lower_phases(const Model& model, DType dtype, const Target& target, Lowered& lowered) {
  LoweringOptions lowering;
  lowering.weight_dtype = dtype;
  lowering.fused = target.fused;
  lowering.packed = target.packed;
  for (const std::string_view phase : kPhases) {
    const Split split = lower(model.build(phase, capacities(model)), lowering);
    lowered.artifacts[std::string(target.name)][graph_file(phase)] = print(split.phase);
    merge_prepare(lowered.prepare, split.prepare);
  }
}

// Modules for the sizes that were asked for; targets differ in the dialect. What the CPU runs of
// them is told.
void lower_modules(const std::vector<Target>& targets, Lowered& lowered, Progress& progress) {
  for (const ModuleSegment& module : lowered.modules) {
    const Graph& graph = module.split.phase;
    for (const Target& target : targets) {
      auto& files = lowered.artifacts[std::string(target.name)];
      if (module.cpu) {
        files[graph_file(graph.name)] = print(graph);
      } else {
        files[module_file(graph.name)] =
            emit_hlo(graph, target.neuron ? HloDialect::neuron : HloDialect::xla);
      }
    }
    merge_prepare(lowered.prepare, module.split.prepare);
    if (module.cpu) {
      progress.say(describe(module));
      continue;
    }
    lowered.device.push_back(module.plan);
    lowered.memory.add(graph, cost_of(graph));
  }
  check(!lowered.device.empty(), "nothing is left for the device: compile with --target cpu");
}

Lowered lower_all(const Model& model, const CompileOptions& options, const StaticOptions& modules,
                  Progress& progress) {
  Lowered lowered;
  std::vector<Target> fixed;
  std::set<std::string> names;
  for (const std::string& name : options.targets) {
    const Target& target = find_backend(name).target;
    target.fixed ? fixed.push_back(target) : lower_phases(model, options.dtype, target, lowered);
    if (target.fixed) names.insert(name);
  }
  if (fixed.empty()) return lowered;
  lowered.modules = segment_modules(model, modules, names);
  lower_modules(fixed, lowered, progress);
  return lowered;
}

void describe_modules(const StaticSizes& sizes, const std::vector<ModuleSegment>& modules,
                      const std::set<std::string>& cpu_ops, Json& manifest) {
  for (const auto& [key, field, most] : kStaticFields) manifest["sizes"][key] = sizes.*field;
  manifest["modules"] = Json::array();
  for (const ModuleSegment& module : modules) {
    Json& row = manifest["modules"].emplace_back();
    row = {{"name", module.plan.name},
           {"phase", module.plan.phase},
           {"sentences", module.plan.sentences},
           {"rows", module.plan.rows}};
    if (module.part_of == module.plan.name) continue;
    row["part_of"] = module.part_of;
    row["backend"] = module.cpu ? "cpu" : "device";
  }
  if (!cpu_ops.empty()) manifest["cpu_ops"] = cpu_ops;
}

Json hashed_sources(const Checkpoint& checkpoint, const CompileOptions& options,
                    Progress& progress) {
  const std::vector<Checkpoint::Source> sources = source_files(checkpoint);
  uint64_t bytes = 0;
  for (const auto& source : sources) bytes += source.size;
  progress.begin("hashing the checkpoint", bytes);
  Json table = Json::object();
  for (const auto& source : sources) {
    const auto known = options.known_hashes.find(source.name);
    const bool is_known = known != options.known_hashes.end();
    table[source.name] = {{"bytes", source.size},
                          {"sha256", is_known ? known->second : hash_file(source.path, progress)}};
    if (is_known) progress.advance(source.size);
  }
  progress.end();
  return table;
}

Json manifest_of(const Checkpoint& checkpoint, const Model& model, const CompileOptions& options) {
  Json manifest;
  manifest["config"] = checkpoint.config();
  const bool has_generation = std::ranges::any_of(checkpoint.sources(), [](const auto& source) {
    return source.name == "generation_config.json";
  });
  manifest["generation_config"] = has_generation ? checkpoint.generation_config() : Json();
  manifest["dtype"] = name(options.dtype);
  manifest["licence"] = licence(checkpoint);
  manifest["model"] = {{"family", model.family}, {"vocabulary", model.vocabulary},
                       {"pad", model.pad},       {"decoder_start", model.decoder_start},
                       {"eos", model.eos},       {"parameters", model.parameters}};
  manifest["targets"] = options.targets;
  return manifest;
}

// The tokenizer as a bundle stores it, "" without one.
std::string tokenizer_of(const Checkpoint& checkpoint, const Model& model, Progress& progress) {
  if (!Tokenizer::present(checkpoint.path())) {
    const bool other = std::filesystem::exists(checkpoint.path() / "vocab.json");
    progress.say(fmt::format("{}: the bundle takes token ids, not text",
                             other ? "vocab.json and sentencepiece.bpe.model are M2M100's, which "
                                     "are not read"
                                   : "no tokenizer files"));
    return "";
  }
  const Tokenizer tokenizer = Tokenizer::open(checkpoint.path());
  check(static_cast<int64_t>(tokenizer.size()) <= model.vocabulary,
        "{}: the tokenizer has ids up to {}, config.json's vocab_size is {}: the files do not "
        "belong together",
        checkpoint.path().string(), tokenizer.size() - 1, model.vocabulary);
  return tokenizer.serialize();
}

// A model that no request can run with its own defaults is worth a word before it is written.
void warn_of_defaults(const Json& manifest, const Model& model, Progress& progress) {
  const Json& generation = manifest.at("generation_config");
  try {
    GenerationOptions options =
        defaults_from(manifest.at("config"), generation.is_null() ? nullptr : &generation);
    check_ids(options, model.vocabulary);
    resolve(options, 1);
    check(options.max_length <= manifest.value("/sizes/target"_json_pointer, kMostTargetIds),
          "max_length {} is above --target-length", options.max_length);
  } catch (const Error& error) {
    progress.say(fmt::format("warning: generate and translate will refuse these defaults: {}",
                             error.what()));
  }
}

// From the last by name: of several Neuron targets, whose modules are equal, one is trn1 or trn2
// and so comes before pjrt; the others share its files.
void add_artifacts(const Artifacts& artifacts, BundleWriter& writer) {
  for (auto of = artifacts.rbegin(); of != artifacts.rend(); ++of) {
    for (const auto& [name, bytes] : of->second) writer.add_file_of(of->first, name, bytes);
  }
}

// The nearest directory that exists, for what will be made at `path`.
Path existing_parent(const Path& path) {
  Path parent = std::filesystem::absolute(path).parent_path();
  std::error_code unreadable;
  while (!std::filesystem::exists(parent, unreadable) && parent.has_relative_path())
    parent = parent.parent_path();
  return parent;
}

void check_room(const Path& out, uint64_t bytes) {
  const Path parent = existing_parent(out);
  const uint64_t room = free_disk_bytes(parent);
  check(bytes <= room, "{}: the bundle needs {} MB, {} MB are free in {}", out.string(),
        (bytes >> 20) + 1, room >> 20, parent.string());
}

// Of the files beside the weights: the manifest gets a few lines a tensor and a source file.
uint64_t other_bytes(const Lowered& lowered, const Json& manifest, size_t tokenizer_bytes) {
  constexpr uint64_t kManifestBase = 4096, kManifestRow = 320;
  uint64_t bytes = tokenizer_bytes + kManifestBase + manifest.dump(2).size();
  for (const Named& output : lowered.prepare.outputs) bytes += kManifestRow + output.name.size();
  for (const auto& [target, files] : lowered.artifacts) {
    for (const auto& [name, text] : files) bytes += kManifestRow + text.size();
  }
  return bytes;
}

}  // namespace

StaticOptions module_options(const CompileOptions& options) {
  StaticOptions modules = checked(options.modules);
  modules.dtype = options.dtype;
  return modules;
}

CompileOptions options_of(const Bundle& bundle) {
  CompileOptions options;
  options.targets = bundle.targets();
  options.dtype = bundle.dtype();
  options.neuron.emit_only = true;
  if (bundle.modules().empty()) return options;
  StaticOptions& modules = options.modules;
  modules = {{}, bundle.sizes().beams, {}, bundle.sizes().target};
  modules.device_candidates = bundle.sizes().candidates > 0;
  modules.reorder = bundle.sizes().reorder != 0;
  modules.ranks = bundle.sizes().ranks;
  for (const Bundle::Module& module : bundle.modules()) {
    modules.with_logits = modules.with_logits || module.phase == "logits";
    if (module.phase != "encode") continue;
    modules.batches.push_back(module.sentences);
    modules.source_lengths.push_back(module.rows);
  }
  const Json ops = bundle.manifest().value("cpu_ops", Json::array());
  const auto is_text = [](const Json& op) { return op.is_string(); };
  check(ops.is_array() && std::ranges::all_of(ops, is_text), "{}: \"cpu_ops\" is no list of names",
        (bundle.path() / kManifestName).string());
  modules.cpu_ops = ops.get<std::set<std::string>>();
  modules = checked(modules);
  return options;
}

Sizes capacities(const Model& model) {
  Sizes sizes = {};
  sizes.tokens = int64_t{1} << 20;
  sizes.rows = int64_t{1} << 16;
  sizes.context = int64_t{1} << 13;
  sizes.cache = int64_t{1} << 26;
  sizes.memory = int64_t{1} << 24;
  sizes.candidates = model.vocabulary;
  return sizes;
}

std::vector<Checkpoint::Source> source_files(const Checkpoint& checkpoint) {
  std::vector<Checkpoint::Source> files = checkpoint.sources();
  for (const char* name :
       {"README.md", "added_tokens.json", "sentencepiece.bpe.model", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.json"}) {
    const Path path = checkpoint.path() / name;
    if (!std::filesystem::is_regular_file(path)) continue;
    files.push_back({name, std::filesystem::file_size(path), path});
  }
  std::ranges::sort(files, {}, &Checkpoint::Source::name);
  return files;
}

std::string hash_file(const Path& path, Progress& progress) {
  constexpr size_t kBlock = size_t{16} << 20;
  const auto file = MappedFile::open(path);
  Sha256 hash;
  for (size_t at = 0; at < file->bytes().size(); at += kBlock) {
    const size_t bytes = std::min(kBlock, file->bytes().size() - at);
    hash.update(file->bytes().subspan(at, bytes));
    file->release(at, bytes);
    progress.advance(bytes);
  }
  return hash.finish();
}

void compile(const Checkpoint& checkpoint, const CompileOptions& options, const Path& out,
             Progress& progress) {
  BundleWriter writer(out, options.force);  // first: it refuses an `out` that exists
  const Model model = open_model(checkpoint);
  const StaticOptions modules = module_options(options);
  const Lowered lowered = lower_all(model, options, modules, progress);
  Json manifest = manifest_of(checkpoint, model, options);
  if (!lowered.modules.empty()) {
    describe_modules(static_sizes(model, modules), lowered.modules, modules.cpu_ops, manifest);
  }
  if (options.kept != nullptr) check_same(*options.kept, lowered.artifacts, manifest);
  warn_of_defaults(manifest, model, progress);
  const std::string tokenizer = tokenizer_of(checkpoint, model, progress);
  const uint64_t bytes = prepared_bytes(lowered.prepare);
  const Programs programs =
      options.kept != nullptr
          ? Programs()
          : compile_neffs(lowered.device, lowered.artifacts, lowered.memory, options, progress);
  const uint64_t whole = bytes + other_bytes(lowered, manifest, tokenizer.size());
  if (options.make_room) options.make_room(whole);
  check_room(out, whole);

  if (!tokenizer.empty()) writer.add_file(std::string(kTokenizerName), tokenizer);
  progress.say(fmt::format("licence: {}", manifest["licence"].get<std::string>()));
  manifest["sources"] = hashed_sources(checkpoint, options, progress);
  add_artifacts(lowered.artifacts, writer);
  options.kept != nullptr ? keep_neffs(*options.kept, writer, manifest)
                          : add_neffs(programs, options.neuron.extra, writer, manifest);
  ThreadPool threads(options.threads > 0 ? options.threads : available_threads());
  progress.begin("writing weights", bytes);
  write_prepared(lowered.prepare, checkpoint_rows(checkpoint, model.weights), writer,
                 {threads, progress});
  progress.end();
  writer.commit(std::move(manifest));
}

}  // namespace ng
