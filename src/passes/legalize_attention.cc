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

// The slots of `memory` [slots · source, d] that input "slot" s32[sentences] names, one after the
// other.
Value slots_of(Graph& g, Value memory, const StaticShape& shape) {
  const Type type = g.type(memory);
  const int64_t source = type.size(0) / shape.slots, d = type.size(1);
  const auto known = g.find_input("slot");
  const Value slot = known ? *known : input(g, "slot", {DType::s32, {shape.sentences}});
  const Value runs = gather_rows(g, reshape(g, memory, {shape.slots, source * d}), slot);
  return reshape(g, runs, {shape.sentences * source, d});
}

}  // namespace

Value attend_exactly(const Arithmetic& a, const Node& node, const StaticShape& shape) {
  Graph& g = a.g;
  const int64_t rows = node.types[0].size(0), listed = g.type(node.inputs[3]).size(1);
  std::array<Value, 2> read = {node.inputs[1], node.inputs[2]};
  if (listed != 1) {
    const Shape run = {rows * listed, g.type(read[0]).size(1)};
    for (Value& cache : read) cache = reshape(g, gather_rows(g, cache, node.inputs[3]), run);
    return attend_groups(a, node, {rows, 1, listed}, read);
  }
  const bool memory = g[node.inputs[3]].attrs.name == "memory_start";
  if (memory && shape.sentences < shape.slots) {
    for (Value& cache : read) cache = slots_of(g, cache, shape);
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
