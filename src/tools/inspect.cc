// `neuroglot inspect`: what a model is made of and what a token costs.
#include "backends/xla/import_hlo.h"
#include "base/error.h"
#include "bundle/format.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "tools/opened.h"

namespace ng {
namespace {

const Target& target_of(const CompileOptions& compile) {
  check(compile.targets.size() == 1, "inspect shows a checkpoint for one --target at a time");
  return find_backend(*compile.targets.begin()).target;
}

LoweringOptions lowering(const Options& options) {
  LoweringOptions lowering;
  const CompileOptions compile = compile_options(options);
  const Target& target = target_of(compile);
  lowering.weight_dtype = compile.dtype;
  lowering.fused = target.fused;
  lowering.packed = target.packed;
  lowering.stop_after = options.stage;
  lowering.without = options.without;
  return lowering;
}

// The graph of a phase of a checkpoint, lowered as far as the options say; or all phases' prepare.
Graph lowered(const Model& model, const Options& options) {
  Graph prepare("prepare");
  const CompileOptions compile = compile_options(options);
  if (target_of(compile).fixed) {
    const StaticOptions modules = module_options(compile);
    for (const PlannedModule& module : plan_modules(modules)) {
      if (options.graph != "prepare" && options.graph != module.phase) continue;
      const Split split = lower_module(model, module, modules);
      if (options.graph == module.phase) return split.phase;
      merge_prepare(prepare, split.prepare);
    }
    check(options.graph == "prepare",
          "--graph {}: these modules are of encode, prefill, decode and, "
          "with --with-logits, logits",
          shown(options.graph));
    return prepare;
  }
  for (const std::string_view phase : kPhases) {
    if (options.graph != "prepare" && options.graph != phase) continue;
    const Split split = lower(model.build(phase, capacities(model)), lowering(options));
    if (options.graph == phase) return split.phase;
    merge_prepare(prepare, split.prepare);
  }
  check(options.graph == "prepare", "--graph {}: there are {} and prepare", shown(options.graph),
        fmt::join(kPhases, ", "));
  return prepare;
}

// Matrix work of one row of a phase: 2 · multiply-adds, attention left out, and the bytes of
// matrices that a step reads whatever its rows.
struct Cost {
  int64_t flops = 0, bytes = 0;
};

Cost cost_of(const Graph& graph) {
  Cost cost;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::linear && node.op != Op::project_top_k) continue;
    const Type& matrix = graph.type(node.inputs[1]);
    const int64_t outputs = node.op == Op::linear ? node.types[0].size(1) : node.attrs.dims.at(0);
    cost.flops += 2 * outputs * matrix.size(1);
    cost.bytes += outputs * matrix.size(1) * static_cast<int64_t>(byte_size(matrix.dtype));
  }
  return cost;
}

// Bytes that one token adds to the states of a graph.
int64_t state_bytes(const Graph& graph) {
  int64_t bytes = 0;
  for (const Named& output : graph.outputs) {
    if (!graph.find_input(output.name)) continue;
    const Type& type = graph.type(output.value);
    bytes += type.size(1) * static_cast<int64_t>(byte_size(type.dtype));
  }
  return bytes;
}

Json report(int64_t parameters, int64_t vocabulary, const std::string& licence, const Graph& encode,
            const Graph& decode) {
  const Cost source = cost_of(encode), target = cost_of(decode);
  return {{"parameters", parameters},
          {"vocabulary", vocabulary},
          {"licence", licence},
          {"encode_flops_per_token", source.flops},
          {"encode_weight_bytes", source.bytes},
          {"decode_flops_per_token", target.flops},
          {"decode_weight_bytes_per_step", target.bytes},
          {"memory_bytes_per_source_token", state_bytes(encode)},
          {"cache_bytes_per_target_token_and_beam", state_bytes(decode)}};
}

void print_report(const Json& json, const Options& options) {
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
    return;
  }
  for (const auto& [key, value] : json.items()) {
    fmt::print("{:40} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
}

// Every byte and what the bytes mean; a difference is Verification.
void check_whole(const Options& options) {
  const auto file = damaged_file(options.model);
  const auto differs = [](const std::string& what) {
    throw Error(Error::Kind::Verification, "level bytes: " + what);
  };
  if (file) {
    differs(fmt::format("{}: does not have the size and hash that it was written with",
                        (Path(options.model) / *file).string()));
  }
  Bundle::open(options.model);  // of another version, or made by nobody's compile
  try {
    Progress progress(options.quiet);
    check_bundle(options.model, progress);
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::User) throw;
    differs(error.what());
  }
}

// What would have no effect is refused.
void check_options(const Options& options) {
  const bool graph = !options.graph.empty(), bundle = is_bundle(options.model);
  check(!graph || (!options.check && !options.json),
        "--graph prints a graph and nothing else: leave --check and --json out");
  check(graph || (options.stage.empty() && options.without.empty()),
        "--stage and --without are of a graph that is printed: add --graph PHASE");
  check(!bundle || (options.stage.empty() && options.without.empty()),
        "--stage and --without need a checkpoint directory: a bundle's graphs are final");
  check(bundle || !options.check, "--check hashes a bundle; {} is none", options.model);
}

// The first module of a phase as a graph, or as those of its segments.
std::string first_module(const Bundle& bundle, const std::string& phase,
                         const std::string& target) {
  std::string text, first;
  for (const auto& module : bundle.modules()) {
    if (module.phase != phase || (!first.empty() && first != module.part_of)) continue;
    first = module.part_of;
    const std::string_view file = bundle.file(module.file(), target);
    text += module.cpu ? file : print(import_hlo(file, module.name));
  }
  check(!text.empty(), "--graph {}: the bundle has no module of that phase", shown(phase));
  return text;
}

void add_modules(const Bundle& bundle, const std::string& target, Json& json) {
  json["sizes"] = bundle.manifest().at("sizes");
  uint64_t bytes = 0;
  for (const auto& [weight, stored] : bundle.weights()) bytes += stored.bytes;
  json["weight_bytes"] = bytes;
  for (const Bundle::Module& module : bundle.modules()) {
    const std::string file = bundle.file_of(module.file(), target);
    json["module_bytes"][Path(file).stem()] = bundle.file(file).size();
  }
}

// Of every target, or of those that --target names.
Json report(const Bundle& bundle, const Options& options) {
  const Bundle::Facts& facts = bundle.facts();
  Json json = {{"parameters", facts.parameters}, {"vocabulary", facts.vocabulary},
               {"licence", bundle.licence()},    {"identity", bundle.identity()},
               {"targets", bundle.targets()},    {"dtype", name(bundle.dtype())},
               {"checked", options.check}};
  const auto& targets = options.is_given("--target")
                            ? std::set(options.targets.begin(), options.targets.end())
                            : bundle.targets();
  for (const std::string& target : targets) {
    if (find_backend(target).target.fixed) {
      add_modules(bundle, target, json);
      continue;
    }
    const auto graph = [&](const char* phase) {
      return parse_graph(bundle.file(graph_file(phase), target), phase);
    };
    json.update(report(facts.parameters, facts.vocabulary, bundle.licence(), graph("encode"),
                       graph("decode")));
  }
  return json;
}

int inspect_bundle(const Options& options) {
  if (options.check) check_whole(options);
  const Bundle bundle = Bundle::open(options.model);
  check_as_compiled(options, bundle);
  if (options.graph.empty()) {
    print_report(report(bundle, options), options);
    return 0;
  }
  const std::string target = only_target(options, bundle, [](const Target&) { return true; });
  fmt::print("{}", find_backend(target).target.fixed
                       ? first_module(bundle, options.graph, target)
                       : std::string(bundle.file(graph_file(options.graph), target)));
  return 0;
}

}  // namespace

int inspect_command(const Options& options) {
  check_options(options);
  if (is_bundle(options.model)) return inspect_bundle(options);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const Model model = open_model(checkpoint);
  if (!options.graph.empty()) {
    fmt::print("{}", print(lowered(model, options)));
    return 0;
  }
  Options phase = options;
  phase.graph = "encode";
  const Graph encode = lowered(model, phase);
  phase.graph = "decode";
  print_report(report(model.parameters, model.vocabulary, licence(checkpoint), encode,
                      lowered(model, phase)),
               options);
  return 0;
}

}  // namespace ng
