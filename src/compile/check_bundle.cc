// Is a bundle whole, and do its parts fit each other?
#include <set>

#include "backends/xla/import_hlo.h"
#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle/format.h"
#include "compile/neuron_modules.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "text/tokenizer.h"
#include "translate/ports.h"

namespace ng {
namespace {

// Rows of an embedding, [rows, d] or in panels [panels, d, 16].
int64_t table_rows(const Type& table) {
  return table.rank() == 3 ? table.size(0) * table.size(2) : table.size(0);
}

void check_facts(const Graph& graph, const Bundle::Facts& facts, std::string_view what) {
  const auto tokens = graph.find_input("tokens");
  for (const Node& node : graph.nodes()) {
    const bool embeds = node.op == Op::embed;
    if (embeds || (node.op == Op::gather_rows && tokens && node.inputs[1] == *tokens)) {
      const int64_t rows = table_rows(graph.type(node.inputs[embeds ? 2 : 0]));
      check(rows >= facts.vocabulary, "{}: the embedding has {} rows, {} says {} ids", what, rows,
            kManifestName, facts.vocabulary);
    }
    check(!embeds || node.attrs.padding == facts.pad, "{}: pads with id {}, {} says {}", what,
          node.attrs.padding, kManifestName, facts.pad);
    if (node.op != Op::project_top_k) continue;
    check(node.attrs.dims.at(0) == facts.vocabulary, "{}: scores {} ids, {} says {}", what,
          node.attrs.dims.at(0), kManifestName, facts.vocabulary);
  }
}

// The bundle's weights as a graph wants them.
void check_weight_types(const Bundle& bundle, const Graph& graph, const std::string& what) {
  const int64_t ranks = ranks_of(graph);
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::weight) continue;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const std::string name = rank_name(node.attrs.name, rank, ranks);
      const Type& stored = bundle.weight(name).type;
      check(stored == node.types[0], "{}: needs '{}' as {}, the bundle has {}", what, shown(name),
            to_string(node.types[0]), to_string(stored));
    }
  }
}

// The graph of `file`, which is called `name` and fits the bundle.
Graph checked_graph(const Bundle& bundle, const std::string& file, std::string_view name) {
  const std::string what = (bundle.path() / file).string();
  Graph graph = file.ends_with(".pb") ? import_hlo(bundle.file(file), what)
                                      : parse_graph(bundle.file(file), what);
  check(graph.name == name, "{}: holds the graph '{}'", what, shown(graph.name));
  check_facts(graph, bundle.facts(), what);
  check_weight_types(bundle, graph, what);
  return graph;
}

void check_graphs(const Bundle& bundle, const std::string& target) {
  std::set<std::string> states;
  for (const std::string_view phase : kPhases) {
    const Graph graph = checked_graph(bundle, bundle.file_of(graph_file(phase), target), phase);
    std::vector<Port> inputs, outputs;
    for (const Named& in : graph.inputs()) inputs.push_back({in.name, graph.type(in.value)});
    for (const Named& out : graph.outputs) {
      outputs.push_back({out.name, graph.type(out.value)});
      if (graph.find_input(out.name)) states.insert(out.name);
    }
    check_ports(phase, {inputs, outputs}, bundle.facts().vocabulary,
                [&](const std::string& name) { return states.contains(name); });
  }
}

}  // namespace

std::string checked_artifact(const Bundle& bundle, std::string_view phase,
                             const std::string& target) {
  checked_graph(bundle, bundle.file_of(graph_file(phase), target), phase);
  return std::string(bundle.file(graph_file(phase), target));
}

std::string_view checked_module(const Bundle& bundle, const Bundle::Module& module,
                                const std::string& target) {
  const std::string file = bundle.file_of(module.file(), target);
  const std::string what = (bundle.path() / file).string();
  const Graph graph = checked_graph(bundle, file, module.name);
  check(module.cpu || ranks_of(graph) == bundle.sizes().ranks, "{}: is for {} ranks, {} says {}",
        what, ranks_of(graph), kManifestName, bundle.sizes().ranks);
  const auto tokens = graph.find_input("tokens");
  const Type wanted{DType::s32, {module.sentences * module.rows}};
  check(tokens ? graph.type(*tokens) == wanted : module.part_of != module.name,
        "{}: does not take {} tokens, as {} says", what, wanted.size(0), kManifestName);
  for (const auto& [name, value] : graph.inputs()) {
    if (name.find("keys.") == name.npos && name.find("values.") == name.npos) continue;
    const StaticSizes& sizes = bundle.sizes();
    const bool memory = name.starts_with("memory_");
    const int64_t rows = memory ? sizes.slots * sizes.source : sizes.cache_rows();
    const Type& type = graph.type(value);
    check(type.rank() == 2 && type.size(0) == rows,
          "{}: '{}' is {}, by the sizes in {} it has {} rows", what, shown(name), to_string(type),
          kManifestName, rows);
  }
  return bundle.file(file);
}

void check_bundle(const Path& path, Progress& progress) {
  const Bundle bundle = Bundle::open(path);
  for (const std::string& target : bundle.targets()) {
    const bool fixed = find_backend(target).target.fixed;
    check(!fixed || !bundle.modules().empty(), "{}: has no modules for {}", path.string(),
          shown(target));
    if (!fixed) check_graphs(bundle, target);
    for (const auto& module : bundle.modules()) {
      if (fixed) checked_module(bundle, module, target);
    }
  }
  check_neffs(bundle);
  if (bundle.has_tokenizer()) {
    const Tokenizer tokenizer =
        Tokenizer::parse(bundle.tokenizer_bytes(), (path / kTokenizerName).string());
    check(static_cast<int64_t>(tokenizer.size()) <= bundle.facts().vocabulary,
          "{}: the tokenizer has {} ids, the model {}", path.string(), tokenizer.size(),
          bundle.facts().vocabulary);
  }
  bundle.check_weights(progress);
}

}  // namespace ng
