// What type has each result of an op? One function an op group; the rules' numbers are
// docs/ops.md's.
#include "base/error.h"
#include "ir/build.h"
#include "tensor/ranks.h"

namespace ng {
namespace {

// Everything a rule looks at.
struct Site {
  const Graph& graph;
  const Node& node;

  const Type& in(size_t i) const { return graph.type(node.inputs[i]); }
  const Type& declared(size_t i = 0) const { return node.types[i]; }

  template <class... Args>
  void rule(const char* number, bool holds, fmt::format_string<Args...> format,
            Args&&... args) const {
    if (holds) return;
    std::string inputs;
    for (const Value& value : node.inputs) inputs += " " + to_string(graph.type(value));
    fail("graph {}: {} breaks rule {}: {} (inputs{})", shown(graph.name), row(node.op).name, number,
         fmt::format(format, std::forward<Args>(args)...), inputs);
  }
  void needs_declared(size_t count) const {
    rule("N1", node.types.size() == count, "it needs {} result types, not {}", count,
         node.types.size());
  }
  void needs_dtype(const Type& type, DType dtype) const {
    rule("N2", type.dtype == dtype, "{} where {} is needed", to_string(type), name(dtype));
  }
  void needs_rank(const Type& type, int rank) const {
    rule("N2", type.rank() == rank, "{} where rank {} is needed", to_string(type), rank);
  }
};

Type infer_leaf(const Site& site) {
  site.needs_declared(1);
  const Type& type = site.declared();
  const Attrs& attrs = site.node.attrs;
  site.rule("L1", type.rank() <= 4, "rank {} is above 4", type.rank());
  if (site.node.op == Op::input || site.node.op == Op::weight) {
    site.rule("L2", !attrs.name.empty(), "it has no name");
  }
  if (site.node.op != Op::input && site.node.op != Op::iota) {
    site.rule("L3", !type.counted(), "{} is counted", to_string(type));
  }
  if (site.node.op == Op::constant) {
    site.rule("L4", attrs.values.size() <= 8 && type.dtype != DType::s8, "more than 8 values");
    site.rule("L4", element_count(type.shape) == static_cast<int64_t>(attrs.values.size()),
              "{} values for {}", attrs.values.size(), to_string(type));
  }
  if (site.node.op == Op::iota) {
    site.needs_dtype(type, DType::s32);
    site.rule("L5", attrs.axis >= 0 && attrs.axis < type.rank(), "axis {}", attrs.axis);
  }
  if (site.node.op == Op::frequencies) {
    site.needs_dtype(type, DType::f32);
    site.needs_rank(type, 1);
  }
  return type;
}

Type infer_elementwise(const Site& site) {
  const Type& first = site.in(0);
  for (size_t i = 1; i < site.node.inputs.size(); ++i) {
    site.rule("E1", site.in(i) == first, "inputs differ in type");
  }
  const bool arithmetic = site.node.inputs.size() == 2;
  site.rule("E2", first.dtype == DType::f32 || (arithmetic && first.dtype == DType::s32),
            "{} has no such operation", to_string(first));
  return first;
}

Type infer_select_less(const Site& site) {
  site.rule("E3", site.in(0) == site.in(1) && site.in(0).dtype == DType::s32, "compares s32");
  site.rule("E3", site.in(2) == site.in(3) && site.in(2).shape == site.in(0).shape,
            "the choices differ in type or shape");
  return site.in(2);
}

Type infer_convert(const Site& site) {
  site.needs_declared(1);
  site.rule("E4", site.declared().shape == site.in(0).shape, "changes the shape to {}",
            to_string(site.declared()));
  return site.declared();
}

Type infer_broadcast(const Site& site) {
  site.needs_declared(1);
  const auto& dims = site.node.attrs.dims;
  const Type &from = site.in(0), &to = site.declared();
  site.needs_dtype(to, from.dtype);
  site.rule("S1", dims.size() == from.shape.size(), "{} axes for {}", dims.size(), to_string(from));
  for (size_t i = 0; i < dims.size(); ++i) {
    const bool ascending = dims[i] >= 0 && dims[i] < to.rank() && (i == 0 || dims[i - 1] < dims[i]);
    site.rule("S1", ascending, "axis {}", dims[i]);
    const Dim& target = to.shape[static_cast<size_t>(dims[i])];
    site.rule("S1", from.shape[i] == target || from.shape[i] == Dim(1), "{} to {}", to_string(from),
              to_string(to));
  }
  return to;
}

Type infer_reshape(const Site& site) {
  site.needs_declared(1);
  const Type &from = site.in(0), &to = site.declared();
  site.needs_dtype(to, from.dtype);
  size_t same = 0;  // counted axes must be among the leading ones that stay
  while (same < from.shape.size() && same < to.shape.size() && from.shape[same] == to.shape[same]) {
    ++same;
  }
  const Shape rest_from(from.shape.begin() + static_cast<long>(same), from.shape.end());
  const Shape rest_to(to.shape.begin() + static_cast<long>(same), to.shape.end());
  site.rule("S2", !Type{from.dtype, rest_from}.counted() && !Type{to.dtype, rest_to}.counted(),
            "{} to {} moves a counted axis", to_string(from), to_string(to));
  site.rule("S2", element_count(rest_from) == element_count(rest_to), "{} to {}", to_string(from),
            to_string(to));
  return to;
}

Type infer_transpose(const Site& site) {
  const auto& dims = site.node.attrs.dims;
  const Type& from = site.in(0);
  std::vector<bool> seen(from.shape.size());
  site.rule("S3", dims.size() == from.shape.size(), "{} axes for {}", dims.size(), to_string(from));
  Type to{from.dtype, {}};
  for (int64_t dim : dims) {
    const bool fresh = dim >= 0 && dim < from.rank() && !seen[static_cast<size_t>(dim)];
    site.rule("S3", fresh, "axis {}", dim);
    seen[static_cast<size_t>(dim)] = true;
    to.shape.push_back(from.shape[static_cast<size_t>(dim)]);
  }
  return to;
}

Type infer_concatenate(const Site& site) {
  const int64_t axis = site.node.attrs.axis;
  Type to = site.in(0);
  site.rule("S4", axis >= 0 && axis < to.rank(), "axis {}", axis);
  Dim& joined = to.shape[static_cast<size_t>(axis)];
  site.rule("S4", joined.count == Count::none, "joins a counted axis");
  for (size_t i = 1; i < site.node.inputs.size(); ++i) {
    Type part = site.in(i);
    site.rule("S4", part.rank() == to.rank(), "ranks differ");
    Dim& size = part.shape[static_cast<size_t>(axis)];
    site.rule("S4", size.count == Count::none, "joins a counted axis");
    const int64_t total = joined.size + size.size;
    joined = size = Dim(total);
    site.rule("S4", part == to, "part {} differs outside the axis", i);
  }
  return to;
}

Type infer_slice(const Site& site) {
  site.needs_declared(1);
  const int64_t axis = site.node.attrs.axis, begin = site.node.attrs.begin;
  const Type &from = site.in(0), &to = site.declared();
  site.rule("S5", axis >= 0 && axis < from.rank() && from.rank() == to.rank(), "axis {}", axis);
  const Dim &source = from.shape[static_cast<size_t>(axis)],
            &part = to.shape[static_cast<size_t>(axis)];
  site.rule("S5", source.count == Count::none && part.count == Count::none, "cuts a counted axis");
  site.rule("S5", begin >= 0 && part.size >= 0 && begin <= source.size - part.size,
            "{} from {} of {}", part.size, begin, source.size);
  Type expected = from;
  expected.shape[static_cast<size_t>(axis)] = part;
  site.rule("S5", expected == to, "{} to {}", to_string(from), to_string(to));
  return to;
}

Type infer_pack(const Site& site) {
  const Type& from = site.in(0);
  site.needs_rank(from, 2);
  site.rule("S6", !from.counted(), "packs a counted matrix");
  const int64_t panels = (from.size(0) + kPackWidth - 1) / kPackWidth;
  return {from.dtype, {panels, from.shape[1], kPackWidth}};
}

Type infer_unpack(const Site& site) {
  site.needs_declared(1);
  const Type &from = site.in(0), &to = site.declared();
  site.needs_rank(from, 3);
  site.needs_rank(to, 2);
  const int64_t panels = (to.size(0) + kPackWidth - 1) / kPackWidth;
  const Type expected{to.dtype, {panels, to.shape[1], kPackWidth}};
  site.rule("S7", from == expected, "{} from {}", to_string(to), to_string(from));
  return to;
}

bool is_weight_dtype(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

Type infer_dot(const Site& site) {
  const Type &a = site.in(0), &b = site.in(1);
  site.rule("D1", is_weight_dtype(b.dtype), "{} is no matrix type", to_string(b));
  site.rule("D1", a.dtype == DType::f32 || (a.dtype == DType::bf16 && b.dtype == DType::bf16),
            "{} with {}", to_string(a), to_string(b));
  site.rule("D2", a.rank() >= 2 && a.rank() == b.rank(), "ranks {} and {}", a.rank(), b.rank());
  const auto last = static_cast<size_t>(a.rank() - 1);
  for (size_t i = 0; i <= last; ++i) {
    site.rule("D2", i == last - 1 || a.shape[i] == b.shape[i], "axis {} differs", i);
  }
  Type to{DType::f32, a.shape};
  to.shape[last] = b.shape[last - 1];
  return to;
}

Type infer_reduce(const Site& site) {
  Type to = site.in(0);
  site.needs_dtype(to, DType::f32);
  site.rule("R1", to.rank() >= 1, "rank 0");
  to.shape.pop_back();
  return to;
}

Type infer_all_reduce(const Site& site) {
  site.needs_dtype(site.in(0), DType::f32);
  const auto& dims = site.node.attrs.dims;
  site.rule("R2", dims.size() == 1 && dims[0] >= 2 && dims[0] <= kMostRanks,
            "dims is not a number of ranks from 2 to {}", kMostRanks);
  return site.in(0);
}

Type infer_gather_rows(const Site& site) {
  const Type &table = site.in(0), &ids = site.in(1);
  site.needs_dtype(ids, DType::s32);
  site.rule("G1", table.rank() >= 1, "the table has rank 0");
  Type to{table.dtype, ids.shape};
  to.shape.insert(to.shape.end(), table.shape.begin() + 1, table.shape.end());
  return to;
}

Type infer_write_rows(const Site& site) {
  const Type &state = site.in(0), &rows = site.in(1), &index = site.in(2);
  site.needs_rank(state, 2);
  site.needs_rank(rows, 2);
  site.needs_dtype(index, DType::s32);
  const bool fits = rows.dtype == state.dtype && rows.shape[1] == state.shape[1] &&
                    index.shape == Shape{rows.shape[0]};
  site.rule("W1", fits, "{} at {} into {}", to_string(rows), to_string(index), to_string(state));
  return state;
}

// [n, k] or [⌈n/16⌉, k, 16] as a matrix of n rows: its k.
int64_t matrix_inner(const Site& site, const Type& matrix, int64_t n) {
  site.rule("M1", is_weight_dtype(matrix.dtype) && !matrix.counted(), "{} is no matrix",
            to_string(matrix));
  const int64_t panels = (n + kPackWidth - 1) / kPackWidth;
  const bool plain = matrix.rank() == 2 && matrix.size(0) == n;
  const bool packed =
      matrix.rank() == 3 && matrix.size(0) == panels && matrix.size(2) == kPackWidth;
  site.rule("M1", plain || packed, "{} is no matrix of {} rows", to_string(matrix), n);
  return matrix.size(1);
}

Type infer_embed(const Site& site) {
  const Type &ids = site.in(0), &positions = site.in(1), &table = site.in(2);
  site.needs_dtype(ids, DType::s32);
  site.needs_rank(ids, 1);
  site.rule("C1", positions == ids, "positions differ from ids");
  const bool packed = table.rank() == 3 && table.size(2) == kPackWidth;
  site.rule("C1", (table.rank() == 2 || packed) && !table.counted(), "{} is no matrix",
            to_string(table));
  const int64_t d = table.size(1);
  const Type& angles = site.in(3);
  const bool known =
      angles.rank() == 2 && angles.size(0) > 0 && angles == Type{DType::f32, {angles.size(0), d}};
  site.rule("C1", known || angles == Type{DType::f32, {d / 2}}, "table {} with frequencies {}",
            to_string(table), to_string(angles));
  site.rule("C1", is_weight_dtype(table.dtype), "{} is no matrix type", to_string(table));
  return {DType::f32, {ids.shape[0], d}};
}

Type infer_layer_norm(const Site& site) {
  const Type& x = site.in(0);
  site.needs_rank(x, 2);
  site.needs_dtype(x, DType::f32);
  const Type vector{DType::f32, {x.shape[1]}};
  site.rule("C2", site.in(1) == vector && site.in(2) == vector, "weight or bias is not {}",
            to_string(vector));
  return x;
}

Type infer_linear(const Site& site) {
  site.needs_declared(1);
  const Type &x = site.in(0), &to = site.declared();
  site.needs_rank(x, 2);
  site.needs_rank(to, 2);
  site.needs_dtype(x, DType::f32);
  const int64_t n = to.size(1);
  site.rule("C3", matrix_inner(site, site.in(1), n) == x.size(1), "k differs");
  const Type expected{DType::f32, {x.shape[0], n}};
  site.rule("C3", to == expected, "{} is not {}", to_string(to), to_string(expected));
  const size_t inputs = site.node.inputs.size();
  site.rule("C3", inputs < 3 || site.in(2) == Type{DType::f32, {n}}, "the bias is not [{}]", n);
  site.rule("C3", inputs < 4 || site.in(3) == to, "the residual is not {}", to_string(to));
  return to;
}

Type infer_attend(const Site& site) {
  const Type &q = site.in(0), &keys = site.in(1), &history = site.in(3), &length = site.in(4);
  site.needs_rank(q, 2);
  site.needs_rank(keys, 2);
  site.needs_rank(history, 2);
  site.needs_dtype(q, DType::f32);
  site.needs_dtype(history, DType::s32);
  const int64_t heads = site.node.attrs.heads;
  site.rule("C4", heads >= 1 && q.size(1) % heads == 0, "{} heads for {}", heads, to_string(q));
  site.rule("C4", keys == site.in(2) && keys.dtype == DType::f32 && keys.shape[1] == q.shape[1],
            "keys or values do not fit {}", to_string(q));
  site.rule("C4", history.shape[0] == q.shape[0] && length == Type{DType::s32, {q.shape[0]}},
            "history or length do not fit {}", to_string(q));
  return q;
}

std::vector<Type> infer_top_k(const Site& site) {
  site.needs_declared(2);
  const Type& x = site.in(0);
  site.needs_rank(x, 2);
  site.needs_dtype(x, DType::f32);
  site.needs_rank(site.declared(), 2);
  const Dim k = site.declared().shape[1];
  site.rule("T1", k.size <= x.size(1), "k = {} of {}", k.size, x.size(1));
  const Shape shape = {x.shape[0], k};
  return {Type{DType::f32, shape}, Type{DType::s32, shape}};
}

std::vector<Type> infer_project_top_k(const Site& site) {
  site.needs_declared(3);
  const Type& x = site.in(0);
  site.needs_rank(x, 2);
  site.needs_dtype(x, DType::f32);
  site.needs_rank(site.declared(), 2);
  site.rule("C5", site.node.attrs.dims.size() == 1, "dims is not the vocabulary's size");
  const int64_t vocabulary = site.node.attrs.dims[0];
  site.rule("C5", matrix_inner(site, site.in(1), vocabulary) == x.size(1), "k differs");
  const Dim k = site.declared().shape[1];
  site.rule("C5", k.size <= vocabulary, "k = {} of {}", k.size, vocabulary);
  const Shape shape = {x.shape[0], k};
  return {Type{DType::f32, shape}, Type{DType::s32, shape}, Type{DType::f32, {x.shape[0]}}};
}

std::vector<Type> all(Type type) { return {std::move(type)}; }
std::vector<Type> all(std::vector<Type> types) { return types; }

}  // namespace

std::vector<Type> infer(const Graph& graph, const Node& node) {
  const Site site{graph, node};
  const OpRow& op = row(node.op);
  site.rule("N4", node.inputs.size() >= op.fewest_inputs && node.inputs.size() <= op.most_inputs,
            "{} inputs", node.inputs.size());
  switch (node.op) {
#define OP(name, fewest, most, kind, rule) \
  case Op::name:                           \
    return all(infer_##rule(site));
#include "ir/ops.def"
#undef OP
  }
  return {};
}

}  // namespace ng
