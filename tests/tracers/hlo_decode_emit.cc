#include "hlo_decode_emit.h"

#include <numeric>

#include "base/error.h"
#include "hlo_decode.pb.h"

namespace ng::tracer {
namespace {

constexpr int kPred = 1, kTuple = 13;  // xla.PrimitiveType
constexpr int kMayAlias = 1;

int primitive_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return 11;
    case DType::s32: return 4;
    case DType::bf16: return 16;
    default: NG_CHECK(false, "no HLO type for {}", name(dtype));
  }
  return 0;
}

void set_shape(hlo::Shape& shape, const Shape& dims, int element_type) {
  shape.Clear();
  shape.set_element_type(element_type);
  hlo::Layout& layout = *shape.mutable_layout();
  layout.set_tail_padding_alignment_in_elements(1);
  for (size_t i = 0; i < dims.size(); ++i) {
    shape.add_dimensions(dims[i].size);
    shape.add_is_dynamic_dimension(false);
    layout.add_minor_to_major(static_cast<int64_t>(dims.size() - 1 - i));
  }
}

void set_shape(hlo::Shape& shape, const Type& type) {
  set_shape(shape, type.shape, primitive_type(type.dtype));
}

// Instructions of one computation; ids and names are unique in the whole module.
class Instructions {
 public:
  Instructions(std::string name, int64_t& last_id) : last_id_(last_id) {
    computation.set_name(std::move(name));
  }

  hlo::Instruction& add(const std::string& opcode, std::initializer_list<int64_t> operands) {
    hlo::Instruction& made = *computation.add_instructions();
    made.set_id(++last_id_);
    made.set_name(fmt::format("{}.{}", opcode, made.id()));
    made.set_opcode(opcode);
    for (const int64_t operand : operands) made.add_operand_ids(operand);
    computation.set_root_id(made.id());  // of the last one, in the end
    return made;
  }
  hlo::Instruction& add(const std::string& opcode, const Type& type,
                        std::initializer_list<int64_t> operands) {
    hlo::Instruction& made = add(opcode, operands);
    set_shape(*made.mutable_shape(), type);
    return made;
  }
  int64_t parameter(const Type& type) {
    hlo::ProgramShape& program = *computation.mutable_program_shape();
    hlo::Instruction& made = add("parameter", type, {});
    made.set_parameter_number(program.parameters_size());
    *program.add_parameters() = made.shape();
    program.add_parameter_names(fmt::format("p{}", made.parameter_number()));
    return made.id();
  }
  void close(int64_t id) {
    computation.set_id(id);
    const int last = computation.instructions_size() - 1;
    *computation.mutable_program_shape()->mutable_result() = computation.instructions(last).shape();
  }

  hlo::Computation computation;

 private:
  int64_t& last_id_;
};

class Emitter {
 public:
  Emitter(const Graph& graph, Fault fault)
      : graph_(graph), fault_(fault), ids_(graph.nodes().size()) {}
  HloProgram run();

 private:
  int64_t id(Value value) const { return ids_[value.node][value.result]; }
  int64_t in(const Node& node, size_t i) const { return id(node.inputs[i]); }
  const Type& type(const Node& node, size_t i) const { return graph_.type(node.inputs[i]); }

  void parameters();
  void emit(uint32_t at);
  int64_t simple(const Node& node);
  int64_t constant(const Type& type, std::span<const double> values);
  int64_t filled(const Type& type, double value);
  int64_t broadcast(const Node& node);
  int64_t select_less(const Node& node);
  int64_t dot(const Node& node);
  int64_t reduce(const Node& node);
  int64_t gather_rows(const Node& node);
  int64_t write_rows(const Node& node);
  void top_k(uint32_t at);
  void root();

  // A computation of scalars that other instructions call.
  template <class Body>
  int64_t called(const std::string& name, Body body) {
    Instructions made(name, last_id_);
    body(made);
    made.close(module_.computations_size() + 1);
    *module_.add_computations() = std::move(made.computation);
    return module_.computations_size();
  }

  const Graph& graph_;
  Fault fault_;
  int64_t last_id_ = 0;
  std::vector<std::array<int64_t, 3>> ids_;  // node, result → instruction
  hlo::Module module_;
  Instructions entry_{"entry", last_id_};
  HloProgram program_;
};

void Emitter::parameters() {
  program_.inputs = graph_.inputs();
  for (const Named& input : program_.inputs) {
    ids_[input.value.node][0] = entry_.parameter(graph_.type(input.value));
  }
  for (uint32_t at = 0; at < graph_.nodes().size(); ++at) {
    const Node& node = graph_.nodes()[at];
    if (node.op != Op::weight) continue;
    program_.weights.push_back(node.attrs.name);
    ids_[at][0] = entry_.parameter(node.types[0]);
  }
}

int64_t Emitter::constant(const Type& type, std::span<const double> values) {
  hlo::Instruction& made = entry_.add("constant", type, {});
  hlo::Literal& literal = *made.mutable_literal();
  *literal.mutable_shape() = made.shape();
  for (const double value : values) {
    if (type.dtype == DType::s32) literal.add_s32s(static_cast<int32_t>(value));
    if (type.dtype == DType::f32) literal.add_f32s(static_cast<float>(value));
  }
  return made.id();
}

int64_t Emitter::filled(const Type& type, double value) {
  return entry_.add("broadcast", type, {constant({type.dtype, {}}, {&value, 1})}).id();
}

// An axis of size 1 that repeats is no HLO broadcast: it is reshaped away first.
int64_t Emitter::broadcast(const Node& node) {
  const Type& from = type(node, 0);
  Shape kept;
  std::vector<int64_t> dims;
  for (size_t i = 0; i < from.shape.size(); ++i) {
    const int64_t axis = node.attrs.dims[i];
    if (from.shape[i].size != node.types[0].shape[static_cast<size_t>(axis)].size) continue;
    kept.push_back(from.shape[i]);
    dims.push_back(axis);
  }
  int64_t x = in(node, 0);
  if (kept.size() < from.shape.size()) x = entry_.add("reshape", {from.dtype, kept}, {x}).id();
  hlo::Instruction& made = entry_.add("broadcast", node.types[0], {x});
  for (const int64_t axis : dims) made.add_dimensions(axis);
  return made.id();
}

int64_t Emitter::select_less(const Node& node) {
  hlo::Instruction& less = entry_.add("compare", {in(node, 0), in(node, 1)});
  set_shape(*less.mutable_shape(), type(node, 0).shape, kPred);
  const bool mask = node.types[0].rank() == 4;  // attend's
  less.set_comparison_direction(fault_ == Fault::MaskOffByOne && mask ? "LE" : "LT");
  return entry_.add("select", node.types[0], {less.id(), in(node, 2), in(node, 3)}).id();
}

// [..., m, k] · [..., n, k]: HLO's result has the axes in the order that ours has.
int64_t Emitter::dot(const Node& node) {
  hlo::Instruction& made = entry_.add("dot", node.types[0], {in(node, 0), in(node, 1)});
  hlo::DotDimensions& dims = *made.mutable_dot_dimension_numbers();
  const int rank = node.types[0].rank();
  for (int i = 0; i < rank - 2; ++i) {
    dims.add_lhs_batch_dimensions(i);
    dims.add_rhs_batch_dimensions(i);
  }
  dims.add_lhs_contracting_dimensions(rank - 1);
  dims.add_rhs_contracting_dimensions(rank - 1);
  return made.id();
}

int64_t Emitter::reduce(const Node& node) {
  const bool sum = node.op == Op::reduce_sum;
  const Type scalar{DType::f32, {}};
  const int64_t body = called(fmt::format("{}.{}", sum ? "sum" : "max", last_id_), [&](auto& c) {
    const int64_t a = c.parameter(scalar), b = c.parameter(scalar);
    c.add(sum ? "add" : "maximum", scalar, {a, b});
  });
  const double first = sum ? 0 : -std::numeric_limits<double>::infinity();
  const int64_t start = constant(scalar, {&first, 1});
  hlo::Instruction& made = entry_.add("reduce", node.types[0], {in(node, 0), start});
  made.add_dimensions(type(node, 0).rank() - 1);
  made.add_called_computation_ids(body);
  return made.id();
}

// Ids are clamped before: the op says so, and a device may fault where XLA clamps by itself.
int64_t Emitter::gather_rows(const Node& node) {
  const Type& table = type(node, 0);
  const Type& ids = type(node, 1);
  const auto last = static_cast<double>(table.size(0) - 1);
  const int64_t low = filled(ids, 0), high = filled(ids, last);
  const int64_t at = entry_.add("clamp", ids, {low, in(node, 1), high}).id();
  hlo::Instruction& made = entry_.add("gather", node.types[0], {in(node, 0), at});
  hlo::GatherDimensions& dims = *made.mutable_gather_dimension_numbers();
  for (int i = 1; i < table.rank(); ++i) dims.add_offset_dims(ids.rank() + i - 1);
  dims.add_collapsed_slice_dims(0);
  dims.add_start_index_map(0);
  dims.set_index_vector_dim(ids.rank());
  made.add_gather_slice_sizes(1);
  for (int i = 1; i < table.rank(); ++i) made.add_gather_slice_sizes(table.size(i));
  return made.id();
}

// A scatter whose body takes the update. An index outside is skipped by XLA as by the op.
int64_t Emitter::write_rows(const Node& node) {
  const Type scalar{DType::f32, {}};
  const int64_t body = called(fmt::format("replace.{}", last_id_), [&](auto& c) {
    c.parameter(scalar);
    c.parameter(scalar);
  });
  hlo::Instruction& made =
      entry_.add("scatter", node.types[0], {in(node, 0), in(node, 2), in(node, 1)});
  hlo::ScatterDimensions& dims = *made.mutable_scatter_dimension_numbers();
  dims.add_update_window_dims(1);
  dims.add_inserted_window_dims(0);
  dims.add_scatter_dims_to_operand_dims(0);
  dims.set_index_vector_dim(1);
  made.add_called_computation_ids(body);
  return made.id();
}

// Scores and ids sorted together, stably (so the lower id comes first among equals), then cut.
void Emitter::top_k(uint32_t at) {
  const Node& node = graph_.nodes()[at];
  const Type& scores = type(node, 0);
  const Type numbers{DType::s32, scores.shape};
  hlo::Instruction& iota = entry_.add("iota", numbers, {});
  iota.add_dimensions(1);
  const int64_t body = called(fmt::format("greater.{}", last_id_), [&](auto& c) {
    const Type f32{DType::f32, {}}, s32{DType::s32, {}};
    const int64_t a = c.parameter(f32), b = c.parameter(f32);
    c.parameter(s32);
    c.parameter(s32);
    hlo::Instruction& greater = c.add("compare", {a, b});
    set_shape(*greater.mutable_shape(), Shape{}, kPred);
    greater.set_comparison_direction("GT");
  });
  hlo::Instruction& sorted = entry_.add("sort", {in(node, 0), iota.id()});
  sorted.mutable_shape()->set_element_type(kTuple);
  set_shape(*sorted.mutable_shape()->add_tuple_shapes(), scores);
  set_shape(*sorted.mutable_shape()->add_tuple_shapes(), numbers);
  sorted.add_dimensions(1);
  sorted.set_is_stable(true);
  sorted.add_called_computation_ids(body);
  const int64_t pair = sorted.id();
  for (uint8_t i = 0; i < 2; ++i) {
    hlo::Instruction& all = entry_.add("get-tuple-element", i == 0 ? scores : numbers, {pair});
    all.set_tuple_index(i);
    hlo::Instruction& best = entry_.add("slice", node.types[i], {all.id()});
    for (const Dim& dim : node.types[i].shape) {
      hlo::SliceDimension& cut = *best.add_slice_dimensions();
      cut.set_limit(dim.size);
      cut.set_stride(1);
    }
    ids_[at][i] = best.id();
  }
}

int64_t Emitter::simple(const Node& node) {
  static const std::map<Op, const char*> kOpcodes = {
      {Op::add, "add"},         {Op::subtract, "subtract"}, {Op::multiply, "multiply"},
      {Op::divide, "divide"},   {Op::maximum, "maximum"},   {Op::minimum, "minimum"},
      {Op::exp, "exponential"}, {Op::log, "log"},           {Op::sqrt, "sqrt"},
      {Op::erf, "erf"},         {Op::sin, "sine"},          {Op::cos, "cosine"},
      {Op::convert, "convert"}, {Op::reshape, "reshape"},   {Op::transpose, "transpose"},
      {Op::iota, "iota"},       {Op::slice, "slice"},       {Op::concatenate, "concatenate"}};
  const auto found = kOpcodes.find(node.op);
  NG_CHECK(found != kOpcodes.end(), "no HLO for {}", row(node.op).name);
  hlo::Instruction& made = entry_.add(found->second, node.types[0], {});
  for (const Value& value : node.inputs) made.add_operand_ids(id(value));
  const Attrs& attrs = node.attrs;
  if (node.op == Op::transpose)
    made.mutable_dimensions()->Add(attrs.dims.begin(), attrs.dims.end());
  if (node.op == Op::iota || node.op == Op::concatenate) made.add_dimensions(attrs.axis);
  if (node.op == Op::slice) {
    for (int i = 0; i < node.types[0].rank(); ++i) {
      hlo::SliceDimension& cut = *made.add_slice_dimensions();
      cut.set_start(i == attrs.axis ? attrs.begin : 0);
      cut.set_limit(cut.start() + node.types[0].size(i));
      cut.set_stride(1);
    }
  }
  return made.id();
}

void Emitter::emit(uint32_t at) {
  const Node& node = graph_.nodes()[at];
  switch (node.op) {
    case Op::input:
    case Op::weight: return;
    case Op::constant: ids_[at][0] = constant(node.types[0], node.attrs.values); return;
    case Op::broadcast: ids_[at][0] = broadcast(node); return;
    case Op::select_less: ids_[at][0] = select_less(node); return;
    case Op::dot: ids_[at][0] = dot(node); return;
    case Op::reduce_sum:
    case Op::reduce_max: ids_[at][0] = reduce(node); return;
    case Op::gather_rows: ids_[at][0] = gather_rows(node); return;
    case Op::write_rows: ids_[at][0] = write_rows(node); return;
    case Op::top_k: top_k(at); return;
    default: ids_[at][0] = simple(node);
  }
}

void Emitter::root() {
  hlo::Instruction& tuple = entry_.add("tuple", {});
  tuple.mutable_shape()->set_element_type(kTuple);
  for (const Named& output : graph_.outputs) {
    if (output.name.starts_with("decoder.")) continue;
    tuple.add_operand_ids(id(output.value));
    set_shape(*tuple.mutable_shape()->add_tuple_shapes(), graph_.type(output.value));
    for (size_t p = 0; p < program_.inputs.size(); ++p) {
      if (program_.inputs[p].name != output.name) continue;
      program_.aliases.emplace_back(program_.outputs.size(), p);
    }
    program_.outputs.push_back(output);
  }
  if (fault_ == Fault::SwappedAlias) {
    std::swap(program_.aliases.at(0).second, program_.aliases.at(1).second);
  }
  for (const auto& [output, parameter] : program_.aliases) {
    hlo::AliasEntry& entry = *module_.mutable_input_output_alias()->add_entries();
    entry.add_output_shape_index(static_cast<int64_t>(output));
    entry.set_parameter_number(static_cast<int64_t>(parameter));
    entry.set_kind(kMayAlias);
  }
}

HloProgram Emitter::run() {
  parameters();
  for (uint32_t at = 0; at < graph_.nodes().size(); ++at) emit(at);
  root();
  entry_.close(module_.computations_size() + 1);
  module_.set_name(graph_.name);
  module_.set_entry_computation_name(entry_.computation.name());
  module_.set_entry_computation_id(entry_.computation.id());
  *module_.mutable_host_program_shape() = entry_.computation.program_shape();
  *module_.add_computations() = std::move(entry_.computation);
  program_.bytes = module_.SerializeAsString();
  return std::move(program_);
}

}  // namespace

HloProgram emit_hlo(const Graph& graph, Fault fault) { return Emitter(graph, fault).run(); }

}  // namespace ng::tracer
