#include "compile/compile.h"

#include <algorithm>

#include "backends/backend.h"
#include "backends/xla/emit_hlo.h"
#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle/format.h"
#include "compile/neuron_modules.h"
#include "compile/prepare.h"
#include "compile/segments.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "text/tokenizer.h"
#include "translate/generation_options.h"

namespace ng {
namespace {

struct Lowered {
  std::map<std::string, std::string> files;  // of the bundle, by name
  Graph prepare{"prepare"};
  std::vector<PlannedModule> device;  // of a static target: what the device runs
};

// A graph a phase, for any size of request.
Lowered lower_phases(const Model& model, const CompileOptions& options, const Target& target) {
  LoweringOptions lowering;
  lowering.weight_dtype = options.dtype;
  lowering.fused = target.fused;
  lowering.packed = target.packed;
  Lowered lowered;
  for (const std::string_view phase : kPhases) {
    const Split split = lower(model.build(phase, capacities(model)), lowering);
    lowered.files[graph_file(phase)] = print(split.phase);
    merge_prepare(lowered.prepare, split.prepare);
  }
  return lowered;
}

// Modules for the sizes that were asked for; what the CPU runs of them is told.
Lowered lower_modules(const std::vector<ModuleSegment>& modules, HloDialect dialect,
                      Progress& progress) {
  Lowered lowered;
  for (const ModuleSegment& module : modules) {
    const Graph& graph = module.split.phase;
    if (module.cpu) progress.say(describe(module));
    lowered.files[module.cpu ? graph_file(graph.name) : module_file(graph.name)] =
        module.cpu ? print(graph) : emit_hlo(graph, dialect);
    merge_prepare(lowered.prepare, module.split.prepare);
    if (!module.cpu) lowered.device.push_back(module.plan);
  }
  check(!lowered.device.empty(), "nothing is left for the device: compile with --target cpu");
  return lowered;
}

void describe_modules(const StaticSizes& sizes, const std::vector<ModuleSegment>& modules,
                      Json& manifest) {
  for (const auto& [key, field] : kStaticFields) manifest["sizes"][key] = sizes.*field;
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
  const auto& sources = checkpoint.sources();
  const bool has_generation = std::any_of(sources.begin(), sources.end(), [](const auto& source) {
    return source.name == "generation_config.json";
  });
  manifest["generation_config"] = has_generation ? checkpoint.generation_config() : Json();
  manifest["dtype"] = name(options.dtype);
  manifest["licence"] = licence(checkpoint);
  manifest["model"] = {{"family", model.family}, {"vocabulary", model.vocabulary},
                       {"pad", model.pad},       {"decoder_start", model.decoder_start},
                       {"eos", model.eos},       {"parameters", model.parameters}};
  manifest["target"] = options.target;
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
  } catch (const Error& error) {
    progress.say(fmt::format("warning: generate and translate will refuse these defaults: {}",
                             error.what()));
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
  for (const auto& [phase, text] : lowered.files) bytes += text.size();
  return bytes;
}

}  // namespace

StaticOptions module_options(const CompileOptions& options) {
  StaticOptions modules = checked(options.modules);
  modules.dtype = options.dtype;
  return modules;
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
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
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
  const Target& target = find_backend(options.target).target;
  const StaticOptions sizes = module_options(options);
  const std::vector<ModuleSegment> modules =
      target.fixed ? segment_modules(model, sizes, target.name) : std::vector<ModuleSegment>();
  const Lowered lowered =
      target.fixed
          ? lower_modules(modules, target.neuron ? HloDialect::neuron : HloDialect::xla, progress)
          : lower_phases(model, options, target);
  Json manifest = manifest_of(checkpoint, model, options);
  if (target.fixed) describe_modules(static_sizes(model, sizes), modules, manifest);
  warn_of_defaults(manifest, model, progress);
  const std::string tokenizer = tokenizer_of(checkpoint, model, progress);
  const uint64_t bytes = prepared_bytes(lowered.prepare);
  const std::vector<CompiledModule> programs =
      target.neuron ? compile_neffs(lowered.device, lowered.files, options, progress)
                    : std::vector<CompiledModule>();
  const uint64_t whole = bytes + other_bytes(lowered, manifest, tokenizer.size());
  if (options.make_room) options.make_room(whole);
  check_room(out, whole);

  if (!tokenizer.empty()) writer.add_file(std::string(kTokenizerName), tokenizer);
  progress.say(fmt::format("licence: {}", manifest["licence"].get<std::string>()));
  manifest["sources"] = hashed_sources(checkpoint, options, progress);
  for (const auto& [name, bytes_of_file] : lowered.files) writer.add_file(name, bytes_of_file);
  add_neffs(programs, options.neuron, writer, manifest);
  ThreadPool threads(options.threads > 0 ? options.threads : available_threads());
  progress.begin("writing weights", bytes);
  write_prepared(lowered.prepare, checkpoint_rows(checkpoint, model.weights), writer,
                 {threads, progress});
  progress.end();
  writer.commit(std::move(manifest));
}

}  // namespace ng
