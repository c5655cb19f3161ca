#include "compile/neuron_modules.h"

#include <algorithm>

#include "base/error.h"
#include "base/process.h"
#include "bundle/format.h"

namespace ng {
namespace {

// Flags are those of this version where modules are compiled elsewhere.
constexpr std::string_view kNewestCompiler = "2.27.5334.0";

NeuronPhase phase_of(std::string_view phase) {
  if (phase == "encode") return NeuronPhase::encode;
  return phase == "prefill" ? NeuronPhase::prefill : NeuronPhase::decode;
}

void say_device_memory(const DeviceMemory& memory, const NeuronTarget& target, Progress& progress) {
  const auto gib = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  const double core = target.share(target.hbm_bytes);
  progress.say(fmt::format(
      "device memory of a core: {:.2f} GiB of weights, {:.2f} of states, at most {:.2f} of "
      "buffers, and what the runtime and the compiled code need; {} has {} GiB",
      gib(memory.weight_bytes), gib(memory.state_bytes),
      gib(memory.temporary_bytes + memory.io_bytes), target.name, core / (1 << 30)));
  if (static_cast<double>(memory.core_bytes()) > core) {
    progress.say(
        "warning: that is more than a core has: fewer --batch, --beams or a shorter "
        "--target-length, or --dtype bf16");
  }
}

// One of several of one compiler: `first` is another of them, or becomes this one.
void check_neff(std::span<const std::byte> file, const std::string& what,
                std::optional<NeffHeader>& first) {
  NeffHeader header = read_neff_header(file, what);
  if (first) check_neff_compiler(header, *first, what);
  first = std::move(header);
}

std::vector<std::string> neuron_targets(const Bundle& bundle) {
  std::vector<std::string> names;
  for (const std::string& name : bundle.targets()) {
    if (find_backend(name).target.neuron) names.push_back(name);
  }
  return names;
}

// What a module's NEFF is called outside of the bundle.
std::string neff_name(const Bundle& bundle, const std::string& module, const std::string& target) {
  const std::string name = module + ".neff";
  return neuron_targets(bundle).size() == 1 ? name : own_file(name, target);
}

// The NEFFs, or all files but them.
void copy_files(const Bundle& bundle, bool neffs, BundleWriter& writer) {
  for (const auto& [name, row] : bundle.manifest().at("files").items()) {
    if (name.starts_with("neff/") == neffs) writer.add_file(name, bundle.file(name));
  }
}

void copy_weights(const Bundle& bundle, BundleWriter& writer, Progress& progress) {
  std::map<uint64_t, std::string> names;  // by place in the file
  uint64_t bytes = 0;
  for (const auto& [name, stored] : bundle.weights()) {
    names.emplace(stored.offset, name);
    bytes += stored.bytes;
  }
  progress.begin("copying weights", bytes);
  for (const auto& [offset, name] : names) {
    const Tensor tensor = bundle.weight(name);
    writer.begin_tensor(name, tensor.type);
    writer.write(tensor.data);
    progress.advance(tensor.data.size());
  }
  progress.end();
}

}  // namespace

Programs compile_neffs(const std::vector<PlannedModule>& modules, const Artifacts& artifacts,
                       const DeviceMemory& memory, const CompileOptions& options,
                       Progress& progress) {
  Programs programs;
  CompileSettings settings;
  settings.extra = options.neuron.extra;
  settings.jobs = options.neuron.jobs;
  for (const std::string& name : options.targets) {
    if (!find_backend(name).target.neuron) continue;
    settings.target = &find_neuron_target(name);
    say_device_memory(memory, *settings.target, progress);
    std::vector<CompileJob> jobs;
    for (const PlannedModule& module : modules) {
      const std::string& hlo = artifacts.at(name).at(module_file(module.name));
      jobs.push_back({module.name, hlo, phase_of(module.phase)});
    }
    if (options.neuron.emit_only) {
      progress.say(
          fmt::format("{} modules, to be compiled elsewhere: about {:.0f} minutes, one at a "
                      "time (a guess)",
                      jobs.size(), estimate_compilation(jobs, 1).minutes));
      continue;
    }
    if (programs.empty()) settings.compiler = find_neuronx_cc(options.neuron.compiler);
    programs[name] = compile_modules(jobs, settings, progress);
  }
  return programs;
}

void add_neffs(const Programs& programs, const Json& arguments, BundleWriter& writer,
               Json& manifest) {
  std::optional<NeffHeader> first;
  for (auto of = programs.rbegin(); of != programs.rend(); ++of) {
    for (const CompiledModule& program : of->second) {
      const auto file = MappedFile::open(program.neff);
      check_neff(file->bytes(), program.neff.string(), first);
      writer.add_file_of(
          of->first, program_file(program.name),
          {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
    }
  }
  if (!first && arguments.empty()) return;
  manifest["compiler"] = {{"arguments", arguments}};
  if (first) manifest["compiler"]["build"] = shown(first->compiler_build, 128);
}

void keep_neffs(const Bundle& bundle, BundleWriter& writer, Json& manifest) {
  copy_files(bundle, true, writer);
  const auto compiler = bundle.manifest().find("compiler");
  if (compiler != bundle.manifest().end()) manifest["compiler"] = *compiler;
}

void check_neffs(const Bundle& bundle) {
  const Json& manifest = bundle.manifest();
  bool any = false;
  for (const auto& [name, row] : manifest.at("files").items()) any |= name.starts_with("neff/");
  if (!any) return;
  const auto told = manifest.find("compiler");
  std::optional<NeffHeader> first;
  for (const std::string& target : neuron_targets(bundle)) {
    for (const Bundle::Module& module : bundle.modules()) {
      if (module.cpu) continue;
      const std::string name = bundle.file_of(program_file(module.name), target);
      const std::string what = (bundle.path() / name).string();
      check_neff(std::as_bytes(std::span(bundle.file(name))), what, first);
      check(told != manifest.end() && told->is_object() &&
                json_string(*told, "build", "", what) == shown(first->compiler_build, 128),
            "{}: was made by {}, {} says another compiler", what, shown(first->compiler_build, 128),
            kManifestName);
    }
  }
}

std::string neuron_commands(const Bundle& bundle, const NeuronOptions& options) {
  std::string lines;
  for (const std::string& target : neuron_targets(bundle)) {
    NeuronFlags flags;
    flags.target = &find_neuron_target(target);
    flags.version = *parse_neuron_version(kNewestCompiler);
    flags.extra = options.extra;
    for (const Bundle::Module& module : bundle.modules()) {
      if (module.cpu) continue;
      const std::vector<std::string> words = command_words(
          "neuronx-cc", bundle.file_of(module_file(module.name), target),
          neff_name(bundle, module.name, target), compiler_flags(flags, phase_of(module.phase)));
      lines += shell_quoted(words) + "\n";
    }
  }
  return lines;
}

void finish_bundle(const Path& path, const Path& neffs, Progress& progress) {
  const Bundle bundle = Bundle::open(path);
  Programs programs;
  for (const std::string& target : neuron_targets(bundle)) {
    for (const Bundle::Module& module : bundle.modules()) {
      if (module.cpu) continue;
      const Path file = neffs / neff_name(bundle, module.name, target);
      std::error_code ignored;
      check(std::filesystem::is_regular_file(file, ignored),
            "{}: is missing: compile {} there, with --output {}", file.string(),
            bundle.file_of(module_file(module.name), target), file.filename().string());
      programs[target].push_back({module.name, file, nullptr, {}});
    }
  }
  check(!programs.empty(), "{}: has no modules for a Neuron target, it is for {}", path.string(),
        shown(fmt::format("{}", fmt::join(bundle.targets(), ", "))));
  bundle.check_weights(progress);  // they get new hashes
  BundleWriter writer(path, true);
  copy_files(bundle, false, writer);
  Json manifest = bundle.manifest();
  const Json::json_pointer told("/compiler/arguments");
  add_neffs(programs, manifest.contains(told) ? manifest.at(told) : Json::array(), writer,
            manifest);
  copy_weights(bundle, writer, progress);
  writer.commit(std::move(manifest));
}

}  // namespace ng
