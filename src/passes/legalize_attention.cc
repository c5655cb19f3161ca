// How does attention look where shapes are static?
#include "base/error.h"
#include "passes/legalize_parts.h"

namespace ng {
namespace {

// Groups of rows that read one run of keys each.
struct Groups {
  int64_t count, rows, context;  // rows a group, keys a group
};

// [groups · n, d] → [groups, heads, n, head_dim]
Value by_head(Graph& g, Value x, int64_t groups, int64_t heads) {
  const int64_t n = g.type(x).size(0) / groups, head_dim = g.type(x).size(1) / heads;
  return transpose(g, reshape(g, x, {groups, n, heads, head_dim}), {0, 2, 1, 3});
}

// softmax(q · keys^T · scale) · values with keys and values [groups · context, d] in group order.
Value attend_groups(const Arithmetic& a, const Node& node, const Groups& groups,
                    const std::array<Value, 2>& keys_values) {
  Graph& g = a.g;
  const int64_t heads = node.attrs.heads;
  const DType dtype = g.type(keys_values[0]).dtype;
  const Value q = by_head(g, a.as(node.inputs[0], dtype), groups.count, heads);
  const Value keys = by_head(g, keys_values[0], groups.count, heads);
  const Value values = by_head(g, keys_values[1], groups.count, heads);
  const Shape shape = {groups.count, heads, groups.rows, groups.context};
  const Value scores = a.op(Op::multiply, dot(g, q, keys), node.attrs.scale);
  const Value length = reshape(g, node.inputs[4], {groups.count, groups.rows});
  const Value p = a.masked_softmax(scores, broadcast(g, length, shape, {0, 2}));
  const Value mixed = dot(g, a.as(p, dtype), transpose(g, values, {0, 1, 3, 2}));
  return reshape(g, transpose(g, mixed, {0, 2, 1, 3}), node.types[0].shape);
}

}  // namespace

Value listed_runs(Graph& g, Value cache, int64_t runs, const std::string& name, int64_t count) {
  const Type type = g.type(cache);
  const int64_t rows = type.size(0) / runs, d = type.size(1);
  const Value list = input(g, name, {DType::s32, {count}});
  const Value found = gather_rows(g, reshape(g, cache, {runs, rows * d}), list);
  return reshape(g, found, {count * rows, d});
}

Value attend_exactly(const Arithmetic& a, const Node& node, const StaticShape& shape) {
  Graph& g = a.g;
  const int64_t rows = node.types[0].size(0), listed = g.type(node.inputs[3]).size(1);
  std::array<Value, 2> read = {node.inputs[1], node.inputs[2]};
  if (listed != 1 && shape.regions > 0) {
    const int64_t groups = g.name == "prefill" ? shape.sentences : rows;
    for (Value& cache : read) {
      cache = groups + 1 == shape.regions ? slice(g, cache, 0, 0, groups * listed)
                                          : listed_runs(g, cache, shape.regions, "region", groups);
    }
    return attend_groups(a, node, {groups, rows / groups, listed}, read);
  }
  if (listed != 1) {
    const Shape run = {rows * listed, g.type(read[0]).size(1)};
    for (Value& cache : read) cache = reshape(g, gather_rows(g, cache, node.inputs[3]), run);
    return attend_groups(a, node, {rows, 1, listed}, read);
  }
  const bool memory = g[node.inputs[3]].attrs.name == "memory_start";
  if (memory && shape.sentences < shape.slots) {
    for (Value& cache : read) cache = listed_runs(g, cache, shape.slots, "slot", shape.sentences);
  }
  if (!memory) {
    for (Value& cache : read) cache = a.as(cache, shape.compute);
  }
  const int64_t keys = g.type(read[0]).size(0);
  NG_CHECK(rows % shape.sentences == 0 && keys % shape.sentences == 0,
           "{} rows and {} keys for {} sentences", rows, keys, shape.sentences);
  return attend_groups(a, node, {shape.sentences, rows / shape.sentences, keys / shape.sentences},
                       read);
}

}  // namespace ng
