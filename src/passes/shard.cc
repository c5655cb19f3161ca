// Which part of a phase does each of several ranks run, and of which parts of the weights?
//
// Attention heads, feed-forward columns and the vocabulary are dealt to ranks (Megatron-LM's
// scheme): a linear of what all ranks have gives each its own columns, one of such columns a sum
// that all_reduce completes. Whatever differs between ranks is a weight: all run one graph.
#include <algorithm>
#include <limits>
#include <set>

#include "base/error.h"
#include "passes/legalize_parts.h"
#include "tensor/ranks.h"

namespace ng {
namespace {

// A part of a weight is a leaf that is called by the weight's name and how it is cut: rows (of a
// vocabulary: as VocabularyParts says) or columns; or what a rank knows of its rows of a
// vocabulary: the id of the first, s32[1], and which are banned, the lowest float against 0,
// f32[rows].
constexpr std::string_view kRows = ".rows", kColumns = ".columns", kFirst = ".first",
                           kBanned = ".banned";
constexpr double kLowest = std::numeric_limits<float>::lowest();

class Sharder {
 public:
  explicit Sharder(int64_t ranks) : ranks_(ranks) {}
  std::vector<Value> run(Graph& out, const Node& node);

 private:
  VocabularyParts parts(int64_t vocabulary) const { return {vocabulary, ranks_}; }
  static Value leaf(Graph& out, Value whole, std::string_view cut, Type type) {
    return weight(out, out[whole].attrs.name + std::string(cut), std::move(type));
  }
  Value table(Graph& out, Value whole) const {
    const Type& type = out.type(whole);
    return leaf(out, whole, kRows, {type.dtype, {parts(type.size(0)).rows(), type.shape[1]}});
  }
  Value dealt(Value value) { return *dealt_.insert(value).first; }
  Value embedded(Graph& out, const Node& node) const;
  Value projected(Graph& out, Value x, Value matrix) const;
  Value own_columns(Graph& out, const Node& node) const;
  Value summed(Graph& out, const Node& node) const;

  int64_t ranks_;
  std::set<Value> dealt_;  // each rank has other columns
};

// Another rank's id becomes the last row, which is zeros; positions are added by rank 0 alone.
Value Sharder::embedded(Graph& out, const Node& node) const {
  const Arithmetic a{out};
  const Value ids = node.inputs[0], positions = node.inputs[1], whole = node.inputs[2];
  const Type& type = out.type(ids);
  const auto last = static_cast<double>(parts(out.type(whole).size(0)).rows() - 1);
  const Value first =
      broadcast(out, leaf(out, whole, kFirst, {DType::s32, {Dim(1)}}), type.shape, {0});
  const Value local = a.op(Op::subtract, ids, first);
  const Value above = select_less(out, local, a.fill(0, type), a.fill(last, type), local);
  NG_CHECK(node.attrs.padding >= 0, "no position without a row");
  const Value none = a.fill(static_cast<double>(node.attrs.padding), type);
  const Value own = select_less(out, first, a.fill(1, type), positions, none);
  const EmbedInputs inputs = {a.op(Op::minimum, above, last), own, table(out, whole),
                              node.inputs[3]};
  return all_reduce(out, embed(out, inputs, node.attrs.scale, node.attrs.padding), ranks_);
}

// Scores of a rank's rows of the vocabulary.
Value Sharder::projected(Graph& out, Value x, Value matrix) const {
  const int64_t rows = parts(out.type(matrix).size(0)).rows();
  const Value banned = leaf(out, matrix, kBanned, {DType::f32, {rows}});
  return linear(out, {x, table(out, matrix), banned, {}}, rows);
}

Value Sharder::own_columns(Graph& out, const Node& node) const {
  const Value matrix = node.inputs[1];
  if (node.inputs.size() == 2) return projected(out, node.inputs[0], matrix);
  const Type& type = out.type(matrix);
  const int64_t rows = type.size(0) / ranks_;
  check(rows * ranks_ == type.size(0), "--tp {}: does not divide the {} rows of '{}'", ranks_,
        type.size(0), out[matrix].attrs.name);
  return linear(out,
                {node.inputs[0],
                 leaf(out, matrix, kRows, {type.dtype, {rows, type.shape[1]}}),
                 leaf(out, node.inputs[2], kRows, {DType::f32, {rows}}),
                 {}},
                rows);
}

Value Sharder::summed(Graph& out, const Node& node) const {
  const Type& type = out.type(node.inputs[1]);
  const Value columns =
      leaf(out, node.inputs[1], kColumns, {type.dtype, {type.shape[0], type.size(1) / ranks_}});
  const Value own = linear(out, {node.inputs[0], columns, {}, {}}, type.size(0));
  const Value sum = all_reduce(out, own, ranks_);
  return elementwise(out, Op::add, {sum, broadcast(out, node.inputs[2], out.type(sum).shape, {1})});
}

std::vector<Value> Sharder::run(Graph& out, const Node& node) {
  Node own = node;
  if (is_cache(node)) {
    own.types[0].shape[1] = Dim(node.types[0].size(1) / ranks_);
    return {dealt(out.add(std::move(own)))};
  }
  if (node.op == Op::embed) return {embedded(out, node)};
  if (node.op == Op::project_top_k) {
    const Value scores = projected(out, node.inputs[0], node.inputs[1]);
    Dim k = node.types[0].shape[1];
    k.size = std::min(k.size, out.type(scores).size(1));
    const Value best = top_k(out, scores, k);
    return {best, {best.node, 1}, log_sum_exp(out, scores)};
  }
  const bool any = std::ranges::any_of(node.inputs, [&](Value v) { return dealt_.contains(v); });
  if (node.op == Op::linear) {
    return {any ? summed(out, node) : dealt(own_columns(out, node))};
  }
  if (!any) return {};
  if (node.op == Op::log_sum_exp) return {log_sum_exp(out, node.inputs[0])};
  if (node.op == Op::attend) own.attrs.heads /= ranks_;  // divides
  NG_CHECK(node.op == Op::attend || node.op == Op::write_rows || node.op == Op::activate,
           "{} of a rank's columns", row(node.op).name);
  return {dealt(add_inferred(out, std::move(own)))};
}

using Wholes = std::map<std::string, Type>;

// How a rank's leaf is made of whole weights.
std::vector<Value> made_of(Graph& out, const Node& node, const Wholes& wholes,
                           const VocabularyParts& parts, int64_t rank) {
  if (node.op != Op::weight || wholes.contains(node.attrs.name)) return {};
  const size_t dot = node.attrs.name.rfind('.');
  const std::string name = node.attrs.name.substr(0, dot), cut = node.attrs.name.substr(dot);
  const Arithmetic a{out};
  const Type& type = node.types[0];
  const Type& of = wholes.at(name);
  const int64_t size = type.size(0), held = parts.held(rank);
  const int64_t first = std::min(parts.first(rank), parts.vocabulary);
  const auto rows = [&](double value, int64_t count) {
    Type some = type;
    some.shape[0] = Dim(count);
    return a.fill(value, some);
  };
  if (cut == kFirst) return {a.fill(static_cast<double>(parts.first(rank)), type)};
  if (cut == kBanned) return {concatenate(out, {rows(0, held), rows(kLowest, size - held)}, 0)};
  const Value whole = weight(out, name, of);
  if (cut == kColumns) return {slice(out, whole, 1, rank * type.size(1), type.size(1))};
  if (of.size(0) == size * parts.ranks) return {slice(out, whole, 0, rank * size, size)};
  return {concatenate(out, {slice(out, whole, 0, first, held), rows(0, size - held)}, 0)};
}

}  // namespace

Graph shard(const Graph& phase, int64_t ranks) {
  if (ranks == 1) return phase;
  for (const Node& node : phase.nodes()) {
    check(node.op != Op::attend || node.attrs.heads % ranks == 0,
          "--tp {}: does not divide the {} attention heads of {}", ranks, node.attrs.heads,
          phase.name);
  }
  Sharder sharder(ranks);
  return rewrite(phase, [&](Graph& out, const Node& node) { return sharder.run(out, node); });
}

Graph prepare_of_ranks(const Graph& prepare, const Graph& phase, const VocabularyParts& parts) {
  Wholes wholes;
  for (const Node& node : phase.nodes()) {
    if (node.op == Op::weight) wholes.emplace(node.attrs.name, node.types[0]);
  }
  std::vector<bool> differs(prepare.nodes().size());
  for (size_t at = 0; at < differs.size(); ++at) {
    const Node& node = prepare.nodes()[at];
    differs[at] = node.op == Op::weight && !wholes.contains(node.attrs.name);
    for (const Value& value : node.inputs) differs[at] = differs[at] || differs[value.node];
  }
  Graph all("prepare");
  for (int64_t rank = 0; rank < parts.ranks; ++rank) {
    Graph own = rewrite(prepare, [&](Graph& out, const Node& node) {
      return made_of(out, node, wholes, parts, rank);
    });
    for (size_t i = 0; i < own.outputs.size(); ++i) {
      if (!differs[prepare.outputs[i].value.node]) continue;
      own.outputs[i].name = rank_name(own.outputs[i].name, rank, parts.ranks);
    }
    merge_prepare(all, own);
  }
  return all;
}

}  // namespace ng
