// Is a bundle whole, and do its parts fit each other?
#include "base/error.h"
#include "bundle/bundle.h"
#include "compile/compile.h"
#include "ir/text.h"
#include "text/tokenizer.h"

namespace ng {

void check_bundle(const Path& path, Progress& progress) {
  const Bundle bundle = Bundle::open(path);
  for (const std::string_view phase : kPhases) {
    const std::string what = fmt::format("{}/graphs/{}.txt", path.string(), phase);
    const Graph graph = parse_graph(bundle.artifact(std::string(phase)), what);
    check(graph.name == phase, "{}: holds the graph '{}'", what, shown(graph.name));
    for (const Node& node : graph.nodes()) {
      if (node.op != Op::weight) continue;
      const Type& stored = bundle.weight(node.attrs.name).type;
      check(stored == node.types[0], "{}: needs '{}' as {}, the bundle has {}", what,
            shown(node.attrs.name), to_string(node.types[0]), to_string(stored));
    }
  }
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
