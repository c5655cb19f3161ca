// `neuroglot analyze`: what a model will be on a Neuron device, before anybody has one.
#include "compile/analyze.h"

#include "backends/neuron/support.h"
#include "base/error.h"
#include "tools/opened.h"

namespace ng {
namespace {

constexpr size_t kConfigBytes = size_t{16} << 20;

// Of config.json alone: a checkpoint's weights may be missing, or not yet downloaded.
Model described(const std::string& directory) {
  check(!is_bundle(directory), "{}: is a bundle: analyze takes the checkpoint that it was made of",
        directory);
  const Path path = Path(directory) / "config.json";
  const Json config = parse_json(read_file(path, kConfigBytes), path.string());
  check(config.is_object(), "{}: must be a JSON object", path.string());
  return describe_model(config, path.string());
}

double giga(int64_t bytes) { return static_cast<double>(bytes) / 0x1p30; }
double mega(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

void print_support(const Analysis& analysis) {
  fmt::print("operators for {} (neuronx-cc {}): {:.2f} % of nodes on the device\n",
             analysis.target->name, kSupportVersion, analysis.support_percentage());
  for (const OpRow& op : op_table()) {
    const SupportRow& row = support(op.op);
    for (const auto& [found, level] :
         {std::pair{&analysis.decomposed, "decomposed"}, {&analysis.supported, "supported"}}) {
      const auto count = found->find(std::string(op.name));
      if (count == found->end()) continue;
      const std::string becomes(row.instructions.empty() ? row.reason : row.instructions);
      fmt::print("  {:12} {:14} {:7}  {}\n", level, op.name, count->second, becomes);
    }
  }
  for (const Fallback& found : analysis.fallbacks) {
    fmt::print("  {:12} {:14} {:7}  {}\n    {} in {}\n", "CPU fallback", found.kind, found.count,
               found.reason, found.call, fmt::join(found.modules, ", "));
  }
}

void print_modules(const Analysis& analysis) {
  fmt::print("\n{:24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}\n", "modules", "weights", "caches",
             "temporary", "HBM read", "GFLOP", "HBM ms", "math ms");
  for (const ModuleAnalysis& module : analysis.modules) {
    const ModuleCost& cost = module.cost;
    fmt::print("{:24} {:7.0f}MB {:7.0f}MB {:7.0f}MB {:7.0f}MB {:9.1f} {:8.2f} {:8.2f}\n",
               module.plan.name, mega(cost.weight_bytes), mega(cost.state_bytes),
               mega(cost.temporary_bytes), mega(cost.read_bytes),
               static_cast<double>(cost.flops) / 1e9, module.hbm_seconds * 1e3,
               module.compute_seconds * 1e3);
  }
  fmt::print("times: one core at its published peaks; a run takes the longer at least\n\n");
  for (const ModuleSegment& segment : analysis.on_cpu) fmt::print("{}\n", describe(segment));
  for (const ModuleAnalysis& module : analysis.modules) {
    const HistoryPrice& past = module.cost.past;
    if (past.history_bytes == 0) continue;
    fmt::print("{}: beam history moves {:.0f} MB a step in {} copies, a reorder {:.0f} MB in {}\n",
               module.plan.name, mega(past.history_bytes), past.history_copies,
               mega(past.reorder_bytes), past.reorder_copies);
  }
}

void print_memory(const Analysis& analysis) {
  const NeuronTarget& target = *analysis.target;
  const DeviceMemory& memory = analysis.memory;
  const auto hbm = static_cast<int64_t>(target.share(target.hbm_bytes));
  fmt::print(
      "\nmemory of all {} modules on one core: {:.2f} of {:.0f} GiB{}\n"
      "  weights {:.2f}, caches {:.2f}, temporaries {:.2f}, inputs and outputs {:.2f} GiB, the "
      "runtime 96 MB; instructions not counted\n"
      "compiling: about {:.0f} minutes, a module at a time, and {:.0f} GiB of memory (guesses)\n",
      analysis.modules.size(), giga(memory.core_bytes()), giga(hbm),
      memory.core_bytes() <= hbm ? "" : ": DOES NOT FIT", giga(memory.weight_bytes),
      giga(memory.state_bytes), giga(memory.temporary_bytes), giga(memory.io_bytes),
      analysis.compilation.minutes, giga(static_cast<int64_t>(analysis.compilation.memory)));
}

}  // namespace

int analyze_command(const Options& options) {
  check(options.is_given("--target"), "analyze needs --target: inf2, trn1 or trn2");
  const NeuronTarget& target = find_neuron_target(options.target);
  const StaticOptions modules = module_options(compile_options(options));
  const Analysis analysis = analyze(described(options.model), modules, target);
  if (options.json) {
    Json json = to_json(analysis);
    json["neuroglot_version"] = NG_VERSION;
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  print_support(analysis);
  print_modules(analysis);
  print_memory(analysis);
  return 0;
}

}  // namespace ng
