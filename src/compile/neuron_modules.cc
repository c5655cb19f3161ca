#include "compile/neuron_modules.h"

#include <algorithm>

#include "backends/xla/module.h"
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

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// What all modules together keep on a core, and what the largest takes and gives.
struct DeviceMemory {
  uint64_t weights = 0, states = 0, buffers = 0;
};

uint64_t bytes_of_ports(const std::vector<Port>& ports) {
  uint64_t bytes = 0;
  for (const Port& port : ports) bytes += static_cast<uint64_t>(byte_count(port.type));
  return bytes;
}

DeviceMemory device_memory(std::span<const CompileJob> jobs) {
  std::map<std::string, Type> weights, states;
  DeviceMemory memory;
  for (const CompileJob& job : jobs) {
    const ModuleInterface interface = read_interface(job.hlo, job.name);
    for (const Port& port : interface.weights) weights.emplace(port.name, port.type);
    for (const Port& port : interface.states) states.emplace(port.name, port.type);
    memory.buffers = std::max(memory.buffers,
                              bytes_of_ports(interface.inputs) + bytes_of_ports(interface.outputs));
  }
  for (const auto& [name, type] : weights) memory.weights += uint64_t(byte_count(type));
  for (const auto& [name, type] : states) memory.states += uint64_t(byte_count(type));
  return memory;
}

void say_device_memory(const DeviceMemory& memory, const NeuronTarget& target, Progress& progress) {
  const auto gib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  const uint64_t whole = memory.weights + memory.states + memory.buffers;
  const double core = target.share(target.hbm_bytes);
  progress.say(fmt::format(
      "device memory of a core: {:.2f} GiB of weights, {:.2f} of states, {:.2f} of "
      "buffers, and what the runtime and the compiled code need; {} has {} GiB",
      gib(memory.weights), gib(memory.states), gib(memory.buffers), target.name, core / (1 << 30)));
  if (static_cast<double>(whole) > core) {
    progress.say(
        "warning: that is more than a core has: fewer --batch, --beams or a shorter "
        "--target-length, or --dtype bf16");
  }
}

// Of the module `name`, one of several that `first` was made with.
void check_neff(std::span<const std::byte> file, const std::string& what,
                std::optional<NeffHeader>& first) {
  NeffHeader header = read_neff_header(file, what);
  const auto compiler = compiler_of(header);
  check(compiler.has_value(), "{}: its compiler's version is not understood: \"{}\"", what,
        shown(header.compiler_build));
  if (!first) {
    first = std::move(header);
    return;
  }
  check(is_emulated(header) == is_emulated(*first),
        "{}: some NEFFs are of AWS's neuronx-cc and some of the emulated one: compile all with one",
        what);
  check_neff_compiler(header, *compiler_of(*first), what);
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

std::vector<CompiledModule> compile_neffs(const std::vector<PlannedModule>& modules,
                                          const std::map<std::string, std::string>& files,
                                          const CompileOptions& options, Progress& progress) {
  const NeuronTarget& target = find_neuron_target(options.target);
  std::vector<CompileJob> jobs;
  for (const PlannedModule& module : modules) {
    jobs.push_back({module.name, files.at(module_file(module.name)), phase_of(module.phase)});
  }
  say_device_memory(device_memory(jobs), target, progress);
  if (options.neuron.emit_only) {
    progress.say(
        fmt::format("{} modules, to be compiled elsewhere: about {:.0f} minutes, one at a "
                    "time (a guess)",
                    jobs.size(), estimate_compilation(jobs, 1).minutes));
    return {};
  }
  CompileSettings settings;
  settings.compiler = find_neuronx_cc(options.neuron.compiler);
  settings.target = &target;
  settings.extra = options.neuron.extra;
  settings.jobs = options.neuron.jobs;
  return compile_modules(jobs, settings, progress);
}

void add_neffs(const std::vector<CompiledModule>& programs, const NeuronOptions& options,
               BundleWriter& writer, Json& manifest) {
  std::optional<NeffHeader> first;
  for (const CompiledModule& program : programs) {
    const auto file = MappedFile::open(program.neff);
    check_neff(file->bytes(), program.neff.string(), first);
    writer.add_file(program_file(program.name),
                    {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
  }
  if (!first) return;
  manifest["compiler"] = {{"build", shown(first->compiler_build, 128)},
                          {"arguments", options.extra}};
}

void check_neffs(const Bundle& bundle) {
  const auto& modules = bundle.modules();
  const auto has = [&](const Bundle::Module& module) { return bundle.has_program(module.name); };
  if (std::none_of(modules.begin(), modules.end(), has)) return;
  const Json& manifest = bundle.manifest();
  const auto told = manifest.find("compiler");
  std::optional<NeffHeader> first;
  for (const Bundle::Module& module : modules) {
    if (module.cpu) continue;
    const std::string what = (bundle.path() / program_file(module.name)).string();
    check_neff(bytes_of(bundle.program(module.name)), what, first);
    check(told != manifest.end() && told->is_object() &&
              json_string(*told, "build", "", what) == shown(first->compiler_build, 128),
          "{}: was made by {}, {} says another compiler", what, shown(first->compiler_build, 128),
          kManifestName);
  }
}

std::string neuron_commands(const Bundle& bundle, const NeuronOptions& options) {
  NeuronFlags flags;
  flags.target = &find_neuron_target(bundle.target());
  flags.version = *parse_neuron_version(kNewestCompiler);
  flags.extra = options.extra;
  std::string lines;
  for (const Bundle::Module& module : bundle.modules()) {
    if (module.cpu) continue;
    const std::vector<std::string> words =
        command_words("neuronx-cc", module_file(module.name), module.name + ".neff",
                      compiler_flags(flags, phase_of(module.phase)));
    lines += shell_quoted(words) + "\n";
  }
  return lines;
}

void finish_bundle(const Path& path, const Path& neffs, Progress& progress) {
  const Bundle bundle = Bundle::open(path);
  find_neuron_target(bundle.target());
  std::vector<CompiledModule> programs;
  for (const Bundle::Module& module : bundle.modules()) {
    if (module.cpu) continue;
    const Path file = neffs / (module.name + ".neff");
    std::error_code ignored;
    check(std::filesystem::is_regular_file(file, ignored),
          "{}: is missing: compile {} there, with --output {}.neff", file.string(),
          module_file(module.name), module.name);
    programs.push_back({module.name, file, nullptr, {}});
  }
  check(!programs.empty(), "{}: has no modules: it is damaged", path.string());
  bundle.check_weights(progress);  // they get new hashes
  BundleWriter writer(path, true);
  for (const Bundle::Module& module : bundle.modules()) {
    if (module.cpu) {
      writer.add_file(graph_file(module.name), bundle.artifact(module.name));
    } else {
      writer.add_file(module_file(module.name), bundle.module(module.name));
    }
  }
  if (bundle.has_tokenizer())
    writer.add_file(std::string(kTokenizerName), bundle.tokenizer_bytes());
  Json manifest = bundle.manifest();
  add_neffs(programs, {}, writer, manifest);
  copy_weights(bundle, writer, progress);
  writer.commit(std::move(manifest));
}

}  // namespace ng
