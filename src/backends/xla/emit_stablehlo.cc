#include "backends/xla/emit_stablehlo.h"

#include <array>
#include <bit>
#include <cfloat>
#include <map>

#include "backends/xla/legal.h"
#include "backends/xla/wire.h"
#include "base/error.h"

namespace ng {
namespace {

const Type kF32{DType::f32, {}}, kS32{DType::s32, {}};

std::string tensor(std::string_view element, const Shape& shape) {
  std::string text = "tensor<";
  for (const Dim& dim : shape) text += fmt::format("{}x", dim.size);
  return fmt::format("{}{}>", text, element);
}
std::string tensor(const Type& type) {
  return tensor(type.dtype == DType::s32 ? "i32" : name(type.dtype), type.shape);
}

std::string numbers(const std::vector<int64_t>& values) {  // array<i64> of none has no colon
  return values.empty() ? "array<i64>" : fmt::format("array<i64: {}>", fmt::join(values, ", "));
}

// @name, quoted unless it is a bare identifier.
std::string symbol(std::string_view name) {
  const std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  const bool bare =
      letters.find(name[0]) != std::string_view::npos &&
      name.find_first_not_of(std::string(letters) + "0123456789$.") == std::string_view::npos;
  if (bare) return fmt::format("@{}", name);
  std::string quoted = "@\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string dense(const Type& type, double value) {
  if (type.dtype == DType::s32) return fmt::format("{}", static_cast<int32_t>(value));
  const auto single = static_cast<float>(value);
  if (type.dtype == DType::bf16) return fmt::format("0x{:04X}", f32_to_bf16(single));
  return fmt::format("0x{:08X}", std::bit_cast<uint32_t>(single));
}

class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph), names_(graph.nodes().size()) {}
  std::string run();

 private:
  // A value that was printed, and how MLIR calls it and its type.
  struct Printed {
    std::string name, type;
  };
  const Printed& at(Value value) const { return names_[value.node][value.result]; }
  Printed line(const std::string& op, const std::vector<Printed>& operands,
               const std::string& attributes, const std::string& type);
  Printed constant(const Type& type, double value);
  void header();
  void print(uint32_t at);
  Printed simple(const Node& node);
  Printed select_less(const Node& node);
  Printed reduce(const Node& node);
  Printed write_rows(const Node& node);
  void top_k(uint32_t at);
  std::string attributes(const Node& node) const;

  const Graph& graph_;
  std::string text_;
  int last_ = -1;
  std::vector<std::array<Printed, 2>> names_;  // node, result → its print
};

std::string signature(const std::vector<std::string>& operands, const std::string& results) {
  return fmt::format("({}) -> {}", fmt::join(operands, ", "), results);
}

// One operation with one result; attributes may begin with a region.
Printer::Printed Printer::line(const std::string& op, const std::vector<Printed>& operands,
                               const std::string& attributes, const std::string& type) {
  std::vector<std::string> names, types;
  for (const Printed& operand : operands) {
    names.push_back(operand.name);
    types.push_back(operand.type);
  }
  Printed result{fmt::format("%{}", ++last_), type};
  text_ += fmt::format("    {} = \"{}\"({}){}{} : {}\n", result.name, op, fmt::join(names, ", "),
                       attributes.empty() ? "" : " ", attributes, signature(types, type));
  return result;
}

Printer::Printed Printer::constant(const Type& type, double value) {
  return line("stablehlo.constant", {},
              fmt::format("{{value = dense<{}> : {}}}", dense(type, value), tensor(type)),
              tensor(type));
}

// `kind` of the two arguments of a region, of one scalar type.
std::string region(const Type& scalar, const std::string& body) {
  return fmt::format("({{\n    ^bb0(%a: {0}, %b: {0}):\n{1}    }})", tensor(scalar), body);
}
std::string returned(const std::string& name, const std::string& type) {
  return fmt::format("      \"stablehlo.return\"({}) : ({}) -> ()\n", name, type);
}

// A region that combines two floats by `op`.
std::string combined(const char* op) {
  const std::string scalar = tensor(kF32);
  return region(kF32, fmt::format("      %r = \"stablehlo.{0}\"(%a, %b) : ({1}, {1}) -> {1}\n{2}",
                                  op, scalar, returned("%r", scalar)));
}

std::string all_reduce_attributes(int64_t ranks) {
  std::vector<int64_t> ids;
  for (int64_t rank = 0; rank < ranks; ++rank) ids.push_back(rank);
  return fmt::format("{} {{replica_groups = dense<[[{}]]> : tensor<1x{}xi64>}}", combined("add"),
                     fmt::join(ids, ", "), ranks);
}

Printer::Printed Printer::select_less(const Node& node) {
  const Printed less = line("stablehlo.compare", {at(node.inputs[0]), at(node.inputs[1])},
                            "{comparison_direction = #stablehlo<comparison_direction LT>}",
                            tensor("i1", graph_.type(node.inputs[0]).shape));
  return line("stablehlo.select", {less, at(node.inputs[2]), at(node.inputs[3])}, "",
              tensor(node.types[0]));
}

Printer::Printed Printer::reduce(const Node& node) {
  const bool sum = node.op == Op::reduce_sum;
  const Printed start = constant(kF32, sum ? 0.0 : double{-FLT_MAX});
  return line("stablehlo.reduce", {at(node.inputs[0]), start},
              fmt::format("{} {{dimensions = {}}}", combined(sum ? "add" : "maximum"),
                          numbers({graph_.type(node.inputs[0]).rank() - 1})),
              tensor(node.types[0]));
}

Printer::Printed Printer::write_rows(const Node& node) {
  const Type scalar{node.types[0].dtype, {}};
  const std::string numbers =
      "{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], "
      "inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, "
      "indices_are_sorted = false, unique_indices = false}";
  return line("stablehlo.scatter", {at(node.inputs[0]), at(node.inputs[2]), at(node.inputs[1])},
              region(scalar, returned("%b", tensor(scalar))) + " " + numbers,
              tensor(node.types[0]));
}

void Printer::top_k(uint32_t number) {
  const Node& node = graph_.nodes()[number];
  const Type &scores = graph_.type(node.inputs[0]), columns{DType::s32, scores.shape};
  const Printed iota = line("stablehlo.iota", {}, "{iota_dimension = 1 : i64}", tensor(columns));
  const std::array<std::string, 2> types = {tensor(scores), tensor(columns)};
  const std::string pair = fmt::format("{}, {}", types[0], types[1]);
  const int sorted = ++last_;
  text_ += fmt::format(
      "    %{0}:2 = \"stablehlo.sort\"({1}, {2}) ({{\n"
      "    ^bb0(%a: {3}, %b: {3}, %c: {4}, %d: {4}):\n"
      "      %r = \"stablehlo.compare\"(%a, %b) {{comparison_direction = "
      "#stablehlo<comparison_direction GT>}} : ({3}, {3}) -> tensor<i1>\n{5}"
      "    }}) {{dimension = 1 : i64, is_stable = true}} : ({6}) -> ({6})\n",
      sorted, at(node.inputs[0]).name, iota.name, tensor(kF32), tensor(kS32),
      returned("%r", "tensor<i1>"), pair);
  for (size_t i = 0; i < 2; ++i) {
    const Shape& cut = node.types[i].shape;
    names_[number][i] =
        line("stablehlo.slice", {{fmt::format("%{}#{}", sorted, i), types[i]}},
             fmt::format("{{start_indices = {}, limit_indices = {}, strides = {}}}",
                         numbers({0, 0}), numbers({cut[0].size, cut[1].size}), numbers({1, 1})),
             tensor(node.types[i]));
  }
}

std::string slice_attributes(const Node& node) {
  std::vector<int64_t> starts, limits;
  const std::vector<int64_t> strides(node.types[0].shape.size(), 1);
  for (int i = 0; i < node.types[0].rank(); ++i) {
    starts.push_back(i == node.attrs.axis ? node.attrs.begin : 0);
    limits.push_back(starts.back() + node.types[0].size(i));
  }
  return fmt::format("{{start_indices = {}, limit_indices = {}, strides = {}}}", numbers(starts),
                     numbers(limits), numbers(strides));
}

std::string dot_attributes(int rank) {
  std::vector<int64_t> batch;
  for (int i = 0; i < rank - 2; ++i) batch.push_back(i);
  return fmt::format(
      "{{dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [{0}], "
      "rhs_batching_dimensions = [{0}], lhs_contracting_dimensions = [{1}], "
      "rhs_contracting_dimensions = [{1}]>}}",
      fmt::join(batch, ", "), rank - 1);
}

std::string gather_attributes(const Type& table, int ids_rank) {
  std::vector<int64_t> offsets, sizes = {1};
  for (int i = 1; i < table.rank(); ++i) {
    offsets.push_back(ids_rank + i - 1);
    sizes.push_back(table.size(i));
  }
  return fmt::format(
      "{{dimension_numbers = #stablehlo.gather<offset_dims = [{}], collapsed_slice_dims = [0], "
      "start_index_map = [0], index_vector_dim = {}>, slice_sizes = {}, "
      "indices_are_sorted = false}}",
      fmt::join(offsets, ", "), ids_rank, numbers(sizes));
}

std::string Printer::attributes(const Node& node) const {
  const Attrs& attrs = node.attrs;
  switch (node.op) {
    case Op::transpose: return fmt::format("{{permutation = {}}}", numbers(attrs.dims));
    case Op::broadcast: return fmt::format("{{broadcast_dimensions = {}}}", numbers(attrs.dims));
    case Op::iota: return fmt::format("{{iota_dimension = {} : i64}}", attrs.axis);
    case Op::concatenate: return fmt::format("{{dimension = {} : i64}}", attrs.axis);
    case Op::slice: return slice_attributes(node);
    case Op::dot: return dot_attributes(node.types[0].rank());
    case Op::all_reduce: return all_reduce_attributes(attrs.dims[0]);
    case Op::gather_rows:
      return gather_attributes(graph_.type(node.inputs[0]), graph_.type(node.inputs[1]).rank());
    default: return "";
  }
}

Printer::Printed Printer::simple(const Node& node) {
  std::string op = fmt::format("stablehlo.{}", opcode_of(node.op));
  if (node.op == Op::broadcast) op = "stablehlo.broadcast_in_dim";
  if (node.op == Op::dot) op = "stablehlo.dot_general";
  if (node.op == Op::erf) op = "chlo.erf";  // StableHLO has none
  if (node.op == Op::all_reduce) op = "stablehlo.all_reduce";
  std::vector<Printed> operands;
  for (const Value& value : node.inputs) operands.push_back(at(value));
  return line(op, operands, attributes(node), tensor(node.types[0]));
}

void Printer::print(uint32_t number) {
  const Node& node = graph_.nodes()[number];
  Printed& result = names_[number][0];
  switch (node.op) {
    case Op::input:
    case Op::weight: return;
    case Op::constant: result = constant(node.types[0], node.attrs.values[0]); return;
    case Op::select_less: result = select_less(node); return;
    case Op::reduce_sum:
    case Op::reduce_max: result = reduce(node); return;
    case Op::write_rows: result = write_rows(node); return;
    case Op::top_k: return top_k(number);
    default: result = simple(node);
  }
}

void Printer::header() {
  std::map<std::string_view, size_t> outputs;  // name → number
  std::vector<std::string> types, arguments;
  for (const Named& output : graph_.outputs) {
    outputs[output.name] = types.size();
    types.push_back(tensor(graph_.type(output.value)));
  }
  for (const Leaf& leaf : parameters(graph_)) {
    const Node& node = graph_.nodes()[leaf.node];
    const Printed made{fmt::format("%arg{}", arguments.size()), tensor(node.types[0])};
    names_[leaf.node][0] = made;
    arguments.push_back(fmt::format("{}: {}", made.name, made.type));
    if (leaf.role != Role::state) continue;
    arguments.back() +=
        fmt::format(" {{tf.aliasing_output = {} : i32}}", outputs.at(node.attrs.name));
  }
  text_ = fmt::format("module {} {{\n  func.func public @main({}) -> ({}) {{\n",
                      symbol(graph_.name), fmt::join(arguments, ", "), fmt::join(types, ", "));
}

std::string Printer::run() {
  header();
  for (uint32_t number = 0; number < graph_.nodes().size(); ++number) print(number);
  std::vector<std::string> names, types;
  for (const Named& output : graph_.outputs) {
    names.push_back(at(output.value).name);
    types.push_back(at(output.value).type);
  }
  text_ += fmt::format("    \"func.return\"({}) : {}\n  }}\n}}\n", fmt::join(names, ", "),
                       signature(types, "()"));
  return std::move(text_);
}

}  // namespace

std::string emit_stablehlo(const Graph& graph) {
  const std::string reason = objection(graph);
  NG_CHECK(reason.empty(), "graph {} cannot become StableHLO: {}", shown(graph.name), reason);
  return Printer(canonical(graph)).run();
}

}  // namespace ng
