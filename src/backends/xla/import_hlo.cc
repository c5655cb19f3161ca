#include "backends/xla/import_hlo.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>

#include "backends/xla/emit_hlo.h"
#include "backends/xla/legal.h"
#include "backends/xla/module.h"
#include "backends/xla/wire.h"
#include "base/error.h"
#include "ir/build.h"
#include "ir/verify.h"

namespace ng {
namespace {

// Reads no more of an instruction than makes its node. That the rest is as emit_hlo() writes it is
// seen at the end, when the graph is written again.
class Importer {
 public:
  Importer(const hlo::Module& module, const ModuleInterface& interface,
           std::span<const CustomCall> calls)
      : module_(module),
        entry_(module.computations(module.computations_size() - 1)),
        interface_(interface),
        calls_(calls),
        graph_(module.name()) {}
  Graph run();

 private:
  const hlo::Instruction& at(int number) const;
  Value operand(const hlo::Instruction& instruction, int i) const;
  void define(const hlo::Instruction& instruction, Value value);
  Value add(const hlo::Instruction& instruction, Node node);
  void add_parameters();
  int read(int number);
  int read_simple(int number, Op op);
  int read_constant(int number);
  int read_select(int number);
  int read_reduce(int number);
  int read_scatter(int number);
  int read_sorted_top_k(int number);
  int read_custom_call(int number);
  void add_outputs();

  const hlo::Module& module_;
  const hlo::Computation& entry_;
  const ModuleInterface& interface_;
  const std::span<const CustomCall> calls_;
  Graph graph_;
  std::map<int64_t, Value> values_;  // by instruction id
};

const hlo::Instruction& Importer::at(int number) const {
  check(number < entry_.instructions_size(), "the entry ends before it");
  return entry_.instructions(number);
}

Value Importer::operand(const hlo::Instruction& instruction, int i) const {
  check(i < instruction.operand_ids_size(), "{} operands are too few",
        instruction.operand_ids_size());
  const auto found = values_.find(instruction.operand_ids(i));
  check(found != values_.end(), "operand {} is no value defined before it",
        instruction.operand_ids(i));
  return found->second;
}

void Importer::define(const hlo::Instruction& instruction, Value value) {
  check(values_.emplace(instruction.id(), value).second, "id {} is used twice", instruction.id());
}

// A node with the instruction's type, unless it has types already.
Value Importer::add(const hlo::Instruction& instruction, Node node) {
  if (node.types.empty()) node.types = {type_of(instruction.shape())};
  const std::vector<Type> inferred = infer(graph_, node);
  check(inferred == node.types, "the result is {}, not {}", to_string(inferred[0]),
        to_string(node.types[0]));
  return graph_.add(std::move(node));
}

void Importer::add_parameters() {
  int number = 0;
  const auto add = [&](Op op, const std::vector<Port>& ports) {
    for (const Port& port : ports) {
      Node node{op, {}, {}, {port.type}};
      node.attrs.name = port.name;
      define(at(number), graph_.add(std::move(node)));
      ++number;
    }
  };
  add(Op::input, interface_.inputs);
  add(Op::input, interface_.states);
  add(Op::weight, interface_.weights);
}

// The axis along which a slice cuts; 0 when it keeps everything.
void read_slice(const hlo::Instruction& instruction, const Type& from, Attrs& attrs) {
  check(instruction.slice_dimensions_size() == from.rank(), "{} cuts for {}",
        instruction.slice_dimensions_size(), to_string(from));
  for (int i = 0; i < from.rank(); ++i) {
    const hlo::SliceDimension& cut = instruction.slice_dimensions(i);
    if (cut.start() == 0 && cut.limit() == from.size(i)) continue;
    attrs.axis = i;
    attrs.begin = cut.start();
  }
}

int Importer::read_simple(int number, Op op) {
  const hlo::Instruction& instruction = at(number);
  Node node;
  node.op = op;
  for (int i = 0; i < instruction.operand_ids_size(); ++i) {
    node.inputs.push_back(operand(instruction, i));
  }
  const auto& dims = instruction.dimensions();
  if (op == Op::transpose || op == Op::broadcast) node.attrs.dims = {dims.begin(), dims.end()};
  if (op == Op::iota || op == Op::concatenate) {
    check(dims.size() == 1, "{} dimensions instead of 1", dims.size());
    node.attrs.axis = dims[0];
  }
  if (op == Op::all_reduce) node.attrs.dims = {interface_.ranks};
  if (op == Op::slice) read_slice(instruction, graph_.type(operand(instruction, 0)), node.attrs);
  define(instruction, add(instruction, std::move(node)));
  return 1;
}

int Importer::read_constant(int number) {
  const hlo::Instruction& instruction = at(number);
  const hlo::Literal& literal = instruction.literal();
  const Type type = type_of(instruction.shape());
  Node node{Op::constant, {}, {}, {type}};
  if (type.dtype == DType::f32 && literal.f32s_size() == 1) {
    node.attrs.values = {static_cast<double>(literal.f32s(0))};
  } else if (type.dtype == DType::s32 && literal.s32s_size() == 1) {
    node.attrs.values = {static_cast<double>(literal.s32s(0))};
  } else {
    const std::string& bytes = literal.bf16s();
    check(type.dtype == DType::bf16 && bytes.size() == 2, "no literal of one {}", name(type.dtype));
    const auto low = static_cast<uint8_t>(bytes[0]), high = static_cast<uint8_t>(bytes[1]);
    node.attrs.values = {bf16_to_f32(static_cast<uint16_t>(low | high << 8))};
  }
  define(instruction, add(instruction, std::move(node)));
  return 1;
}

// compare, select
int Importer::read_select(int number) {
  const hlo::Instruction &less = at(number), &select = at(number + 1);
  check(select.opcode() == "select" && select.operand_ids_size() == 3 &&
            select.operand_ids(0) == less.id(),
        "a comparison is supported for the select that follows it only");
  Node node;
  node.op = Op::select_less;
  node.inputs = {operand(less, 0), operand(less, 1), operand(select, 1), operand(select, 2)};
  define(select, add(select, std::move(node)));
  return 2;
}

// constant, reduce
int Importer::read_reduce(int number) {
  const hlo::Instruction& reduce = at(number + 1);
  check(reduce.called_computation_ids_size() == 1, "a reduce calls {} computations",
        reduce.called_computation_ids_size());
  const int64_t id = reduce.called_computation_ids(0);
  check(id >= 1 && id <= module_.computations_size(), "there is no computation {}", id);
  const std::string& name = module_.computations(static_cast<int>(id - 1)).name();
  check(name == "add" || name == "maximum", "a reduce by '{}' is not supported", shown(name));
  Node node;
  node.op = name == "add" ? Op::reduce_sum : Op::reduce_max;
  node.inputs = {operand(reduce, 0)};
  define(reduce, add(reduce, std::move(node)));
  return 2;
}

int Importer::read_scatter(int number) {
  const hlo::Instruction& scatter = at(number);
  Node node;
  node.op = Op::write_rows;
  node.inputs = {operand(scatter, 0), operand(scatter, 2), operand(scatter, 1)};
  define(scatter, add(scatter, std::move(node)));
  return 1;
}

// iota, sort, two get-tuple-element, two slices
int Importer::read_sorted_top_k(int number) {
  const hlo::Instruction &scores = at(number + 4), &ids = at(number + 5);
  Node node{Op::top_k, {}, {}, {type_of(scores.shape()), type_of(ids.shape())}};
  node.inputs = {operand(at(number + 1), 0)};
  const Value value = add(scores, std::move(node));
  define(scores, value);
  define(ids, {value.node, 1});
  return 6;
}

// custom-call, and a get-tuple-element for each result where there are several
int Importer::read_custom_call(int number) {
  const hlo::Instruction& call = at(number);
  const auto known = std::find_if(calls_.begin(), calls_.end(), [&](const CustomCall& one) {
    return one.target == call.custom_call_target();
  });
  check(known != calls_.end(), "a custom call of '{}' is not supported",
        shown(call.custom_call_target()));
  Node node{known->op, {}, {}, {}};
  for (int i = 0; i < call.operand_ids_size(); ++i) node.inputs.push_back(operand(call, i));
  const int parts = call.shape().tuple_shapes_size();
  for (int i = 1; i <= parts; ++i) node.types.push_back(type_of(at(number + i).shape()));
  const Value value = add(parts == 0 ? call : at(number + 1), std::move(node));
  if (parts == 0) define(call, value);
  for (int i = 0; i < parts; ++i) {
    define(at(number + 1 + i), {value.node, static_cast<uint8_t>(i)});
  }
  return 1 + parts;
}

// The node of the instructions that begin here; returns how many they are.
int Importer::read(int number) {
  static const std::map<std::string_view, Op> kSimple = [] {
    std::map<std::string_view, Op> made;
    for (const OpRow& op : op_table()) {
      if (!opcode_of(op.op).empty()) made[opcode_of(op.op)] = op.op;
    }
    return made;
  }();
  const std::string& opcode = at(number).opcode();
  const std::string& next = at(number + 1).opcode();  // there is one: the root
  if (opcode == "constant" && next == "reduce") {
    const hlo::Instruction& reduce = at(number + 1);
    const bool starts = reduce.operand_ids_size() == 2 && reduce.operand_ids(1) == at(number).id();
    if (starts) return read_reduce(number);
  }
  if (opcode == "iota" && next == "sort") return read_sorted_top_k(number);
  const auto simple = kSimple.find(opcode);
  if (simple != kSimple.end()) return read_simple(number, simple->second);
  if (opcode == "constant") return read_constant(number);
  if (opcode == "compare") return read_select(number);
  if (opcode == "scatter") return read_scatter(number);
  if (opcode == "custom-call") return read_custom_call(number);
  fail("opcode '{}' is not supported here", shown(opcode));
}

void Importer::add_outputs() {
  const hlo::Instruction& root = at(entry_.instructions_size() - 1);
  for (int i = 0; i < root.operand_ids_size(); ++i) {
    const std::string& name = interface_.outputs[static_cast<size_t>(i)].name;
    graph_.outputs.push_back({name, operand(root, i)});
  }
}

Graph Importer::run() {
  check(entry_.instructions_size() <= static_cast<int>(kNodeLimit),
        "{} instructions are above the limit of {}", entry_.instructions_size(), kNodeLimit);
  const int root = entry_.instructions_size() - 1;
  int number = 0;
  try {
    add_parameters();
    for (number = entry_.program_shape().parameters_size(); number < root;) {
      number += read(number);
    }
    check(number == root, "the root stands inside");
    add_outputs();
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("instruction '{}': {}",
                                          shown(entry_.instructions(number).name()), error.what()));
  }
  return std::move(graph_);
}

HloDialect dialect_of(const hlo::Module& module) {
  for (const hlo::AliasEntry& entry : module.input_output_alias().entries()) {
    if (entry.kind() == 0) return HloDialect::neuron;
  }
  for (const hlo::Computation& computation : module.computations()) {
    for (const hlo::Instruction& instruction : computation.instructions()) {
      if (instruction.opcode() == "custom-call") return HloDialect::neuron;
    }
  }
  return HloDialect::xla;
}

// The first thing about which two messages differ.
std::string first_difference(const google::protobuf::Message& found,
                             const google::protobuf::Message& expected) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(found, expected);
  const std::string line = report.substr(0, report.find('\n'));
  return line.empty() ? "the encoding" : line;
}

// Where a module is not as emit_hlo() writes it: (found) -> (what emit_hlo() writes).
std::string first_difference_of(const hlo::Module& found, const hlo::Module& expected) {
  const int computations = std::min(found.computations_size(), expected.computations_size());
  for (int c = 0; c < computations; ++c) {
    const auto &a = found.computations(c), &b = expected.computations(c);
    const int instructions = std::min(a.instructions_size(), b.instructions_size());
    for (int i = 0; i < instructions; ++i) {
      if (to_bytes(a.instructions(i)) == to_bytes(b.instructions(i))) continue;
      return fmt::format("instruction '{}': {}", shown(a.instructions(i).name()),
                         first_difference(a.instructions(i), b.instructions(i)));
    }
  }
  return first_difference(found, expected);
}

}  // namespace

Graph import_hlo(std::string_view hlo, std::string_view what, std::span<const CustomCall> calls) {
  const ModuleInterface interface = read_interface(hlo, what);
  const hlo::Module module = parse_module(hlo, what);
  Graph graph;
  try {
    graph = Importer(module, interface, calls).run();
    verify(graph);
    const std::string reason = objection(graph);
    check(reason.empty(), "{}", reason);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", what, error.what()));
  }
  const std::string again = emit_hlo(graph, dialect_of(module), calls);
  if (again == hlo) return graph;
  fail("{}: not as it is written here: {}", what,
       shown(first_difference_of(module, parse_module(again, what)), 300));
}

}  // namespace ng
