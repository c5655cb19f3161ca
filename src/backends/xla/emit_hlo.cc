#include "backends/xla/emit_hlo.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <map>

#include "backends/xla/legal.h"
#include "backends/xla/wire.h"
#include "base/error.h"
#include "ir/interpret.h"
#include "ir/verify.h"

namespace ng {
namespace {

constexpr int kMayAlias = 1;  // 0, undefined, is read as "must"
const Type kF32{DType::f32, {}}, kS32{DType::s32, {}};

// One computation as it is written; the last instruction is its root.
class Writer {
 public:
  Writer(hlo::Module& module, const std::string& name, int64_t& last_id)
      : computation_(*module.add_computations()), last_id_(last_id) {
    computation_.set_name(name);
    computation_.set_id(module.computations_size());
  }
  int64_t id() const { return computation_.id(); }

  hlo::Instruction& add(std::string_view opcode, std::initializer_list<int64_t> operands) {
    hlo::Instruction& made = *computation_.add_instructions();
    made.set_id(++last_id_);
    made.set_name(fmt::format("{}.{}", opcode, made.id()));
    made.set_opcode(std::string(opcode));
    for (const int64_t operand : operands) made.add_operand_ids(operand);
    return made;
  }
  hlo::Instruction& add(std::string_view opcode, const Type& type,
                        std::initializer_list<int64_t> operands) {
    hlo::Instruction& made = add(opcode, operands);
    set_shape(*made.mutable_shape(), type);
    return made;
  }

  hlo::Instruction& parameter(const Type& type, const std::string& name) {
    hlo::ProgramShape& program = *computation_.mutable_program_shape();
    hlo::Instruction& made = add("parameter", type, {});
    made.set_parameter_number(program.parameters_size());
    *program.add_parameters() = made.shape();
    program.add_parameter_names(name);
    return made;
  }

  void end() {
    const hlo::Instruction& root = computation_.instructions(computation_.instructions_size() - 1);
    computation_.set_root_id(root.id());
    *computation_.mutable_program_shape()->mutable_result() = root.shape();
  }
  const hlo::Computation& computation() const { return computation_; }

 private:
  hlo::Computation& computation_;
  int64_t& last_id_;
};

void set_attribute(hlo::Instruction& instruction, const char* key, const std::string& value) {
  hlo::FrontendAttributes::Entry& entry = *instruction.mutable_frontend_attributes()->add_map();
  entry.set_key(key);
  entry.set_value(value);
}

class Emitter {
 public:
  Emitter(const Graph& graph, HloDialect dialect, std::span<const CustomCall> calls)
      : graph_(graph), dialect_(dialect), calls_(calls), ids_(graph.nodes().size()) {}
  std::string run();

 private:
  int64_t id(Value value) const { return ids_[value.node][value.result]; }
  int64_t in(const Node& node, size_t i) const { return id(node.inputs[i]); }
  const Type& type(const Node& node, size_t i) const { return graph_.type(node.inputs[i]); }

  const CustomCall* custom_call_of(Op op) const;
  std::string called_name(const Node& node) const;
  void add_called(const Node& node);
  void add_parameters(Writer& to);
  void add_node(Writer& to, uint32_t at);
  int64_t constant(Writer& to, const Type& type, double value);
  int64_t simple(Writer& to, const Node& node);
  int64_t select_less(Writer& to, const Node& node);
  int64_t reduce(Writer& to, const Node& node);
  int64_t write_rows(Writer& to, const Node& node);
  void sorted_top_k(Writer& to, uint32_t at);
  void custom_call(Writer& to, uint32_t at, const CustomCall& as);
  void add_root(Writer& to);

  const Graph& graph_;
  HloDialect dialect_;
  std::span<const CustomCall> calls_;
  int64_t last_id_ = 0;
  std::vector<std::array<int64_t, 2>> ids_;  // node, result → instruction
  std::map<std::string, int64_t> called_;    // name → computation
  hlo::Module module_;
};

// Null: it is written as instructions.
const CustomCall* Emitter::custom_call_of(Op op) const {
  if (dialect_ == HloDialect::xla) return nullptr;
  const auto found = std::find_if(calls_.begin(), calls_.end(),
                                  [&](const CustomCall& call) { return call.op == op; });
  return found == calls_.end() ? nullptr : &*found;
}

// The computation of scalars that the node's instruction calls; "" for none.
std::string Emitter::called_name(const Node& node) const {
  if (custom_call_of(node.op) != nullptr) return "";
  switch (node.op) {
    case Op::all_reduce:
    case Op::reduce_sum: return "add";
    case Op::reduce_max: return "maximum";
    case Op::write_rows: return fmt::format("replace.{}", name(node.types[0].dtype));
    case Op::top_k: return "greater";
    default: return "";
  }
}

void Emitter::add_called(const Node& node) {
  const std::string name = called_name(node);
  if (name.empty() || called_.contains(name)) return;
  Writer body(module_, name, last_id_);
  called_[name] = body.id();
  const Type scalar{node.types[0].dtype, {}};
  const int64_t a = body.parameter(scalar, "p0").id(), b = body.parameter(scalar, "p1").id();
  if (node.op == Op::top_k) {
    body.parameter(kS32, "p2");
    body.parameter(kS32, "p3");
    hlo::Instruction& greater = body.add("compare", {a, b});
    set_mask_shape(*greater.mutable_shape(), {});
    greater.set_comparison_direction("GT");
  } else if (node.op != Op::write_rows) {  // whose root is the second parameter
    body.add(name, scalar, {a, b});
  }
  body.end();
}

void Emitter::add_parameters(Writer& to) {
  for (const Leaf& leaf : parameters(graph_)) {
    const Node& node = graph_.nodes()[leaf.node];
    const std::string name = module_name({leaf.role, node.attrs.name});
    hlo::Instruction& made = to.parameter(node.types[0], name);
    made.set_name(fmt::format("p{}", made.parameter_number()));
    set_attribute(made, "neff_input_names", name);
    ids_[leaf.node][0] = made.id();
  }
}

int64_t Emitter::constant(Writer& to, const Type& type, double value) {
  hlo::Instruction& made = to.add("constant", type, {});
  hlo::Literal& literal = *made.mutable_literal();
  *literal.mutable_shape() = made.shape();
  if (type.dtype == DType::s32) literal.add_s32s(static_cast<int32_t>(value));
  if (type.dtype == DType::f32) literal.add_f32s(static_cast<float>(value));
  if (type.dtype == DType::bf16) {
    const uint16_t bits = f32_to_bf16(static_cast<float>(value));
    literal.set_bf16s(std::string{static_cast<char>(bits & 0xFF), static_cast<char>(bits >> 8)});
  }
  return made.id();
}

int64_t Emitter::select_less(Writer& to, const Node& node) {
  hlo::Instruction& less = to.add("compare", {in(node, 0), in(node, 1)});
  set_mask_shape(*less.mutable_shape(), type(node, 0).shape);
  less.set_comparison_direction("LT");
  return to.add("select", node.types[0], {less.id(), in(node, 2), in(node, 3)}).id();
}

int64_t Emitter::reduce(Writer& to, const Node& node) {
  const int64_t start = constant(to, kF32, node.op == Op::reduce_sum ? 0.0 : double{-FLT_MAX});
  hlo::Instruction& made = to.add("reduce", node.types[0], {in(node, 0), start});
  made.add_dimensions(type(node, 0).rank() - 1);
  made.add_called_computation_ids(called_.at(called_name(node)));
  return made.id();
}

// A scatter whose body takes the update.
int64_t Emitter::write_rows(Writer& to, const Node& node) {
  hlo::Instruction& made =
      to.add("scatter", node.types[0], {in(node, 0), in(node, 2), in(node, 1)});
  hlo::ScatterDimensions& dims = *made.mutable_scatter_dimension_numbers();
  dims.add_update_window_dims(1);
  dims.add_inserted_window_dims(0);
  dims.add_scatter_dims_to_operand_dims(0);
  dims.set_index_vector_dim(1);
  made.add_called_computation_ids(called_.at(called_name(node)));
  return made.id();
}

// Scores and columns sorted together, stably (the lower column comes first among equals), then cut.
void Emitter::sorted_top_k(Writer& to, uint32_t at) {
  const Node& node = graph_.nodes()[at];
  const Type& scores = type(node, 0);
  const std::array<Type, 2> types = {scores, Type{DType::s32, scores.shape}};
  hlo::Instruction& columns = to.add("iota", types[1], {});
  columns.add_dimensions(1);
  hlo::Instruction& sorted = to.add("sort", {in(node, 0), columns.id()});
  set_tuple_shape(*sorted.mutable_shape(), types);
  sorted.add_dimensions(1);
  sorted.set_is_stable(true);
  sorted.add_called_computation_ids(called_.at("greater"));
  std::array<int64_t, 2> all{};
  for (size_t i = 0; i < 2; ++i) {
    hlo::Instruction& part = to.add("get-tuple-element", types[i], {sorted.id()});
    part.set_tuple_index(static_cast<int64_t>(i));
    all[i] = part.id();
  }
  for (size_t i = 0; i < 2; ++i) {
    hlo::Instruction& best = to.add("slice", node.types[i], {all[i]});
    for (const Dim& dim : node.types[i].shape) {
      hlo::SliceDimension& cut = *best.add_slice_dimensions();
      cut.set_limit(dim.size);
      cut.set_stride(1);
    }
    ids_[at][i] = best.id();
  }
}

void Emitter::custom_call(Writer& to, uint32_t at, const CustomCall& as) {
  const Node& node = graph_.nodes()[at];
  hlo::Instruction& call = to.add("custom-call", {});
  for (const Value& value : node.inputs) call.add_operand_ids(id(value));
  call.set_custom_call_target(std::string(as.target));
  if (as.backend_config != nullptr) call.set_backend_config(as.backend_config(node));
  ids_[at][0] = call.id();
  if (node.types.size() == 1) return set_shape(*call.mutable_shape(), node.types[0]);
  set_tuple_shape(*call.mutable_shape(), node.types);
  for (size_t i = 0; i < node.types.size(); ++i) {
    hlo::Instruction& part = to.add("get-tuple-element", node.types[i], {call.id()});
    part.set_tuple_index(static_cast<int64_t>(i));
    ids_[at][i] = part.id();
  }
}

void set_slice(hlo::Instruction& made, const Node& node) {
  for (int i = 0; i < node.types[0].rank(); ++i) {
    hlo::SliceDimension& cut = *made.add_slice_dimensions();
    cut.set_start(i == node.attrs.axis ? node.attrs.begin : 0);
    cut.set_limit(cut.start() + node.types[0].size(i));
    cut.set_stride(1);
  }
}

// [..., m, k] · [..., n, k]: HLO's result has the axes in the order that ours has.
void set_dot(hlo::Instruction& made, const Node& node) {
  hlo::DotDimensions& dims = *made.mutable_dot_dimension_numbers();
  const int rank = node.types[0].rank();
  for (int i = 0; i < rank - 2; ++i) {
    dims.add_lhs_batch_dimensions(i);
    dims.add_rhs_batch_dimensions(i);
  }
  dims.add_lhs_contracting_dimensions(rank - 1);
  dims.add_rhs_contracting_dimensions(rank - 1);
}

void set_gather(hlo::Instruction& made, const Type& table, const Type& ids) {
  hlo::GatherDimensions& dims = *made.mutable_gather_dimension_numbers();
  dims.add_collapsed_slice_dims(0);
  dims.add_start_index_map(0);
  dims.set_index_vector_dim(ids.rank());
  made.add_gather_slice_sizes(1);
  for (int i = 1; i < table.rank(); ++i) {
    dims.add_offset_dims(ids.rank() + i - 1);
    made.add_gather_slice_sizes(table.size(i));
  }
}

// Over all ranks: without a channel, ids of a group are numbers of replicas.
void set_all_reduce(hlo::Instruction& made, const Node& node, int64_t body) {
  hlo::ReplicaGroup& group = *made.add_replica_groups();
  for (int64_t rank = 0; rank < node.attrs.dims[0]; ++rank) group.add_replica_ids(rank);
  made.add_called_computation_ids(body);
}

int64_t Emitter::simple(Writer& to, const Node& node) {
  hlo::Instruction& made = to.add(opcode_of(node.op), node.types[0], {});
  for (const Value& value : node.inputs) made.add_operand_ids(id(value));
  switch (node.op) {
    case Op::transpose:
    case Op::broadcast:
      made.mutable_dimensions()->Add(node.attrs.dims.begin(), node.attrs.dims.end());
      break;
    case Op::iota:
    case Op::concatenate: made.add_dimensions(node.attrs.axis); break;
    case Op::slice: set_slice(made, node); break;
    case Op::dot: set_dot(made, node); break;
    case Op::gather_rows: set_gather(made, type(node, 0), type(node, 1)); break;
    case Op::all_reduce: set_all_reduce(made, node, called_.at("add")); break;
    default: break;
  }
  return made.id();
}

void Emitter::add_node(Writer& to, uint32_t at) {
  const Node& node = graph_.nodes()[at];
  if (const CustomCall* call = custom_call_of(node.op)) return custom_call(to, at, *call);
  switch (node.op) {
    case Op::input:
    case Op::weight: return;
    case Op::constant: ids_[at][0] = constant(to, node.types[0], node.attrs.values[0]); return;
    case Op::select_less: ids_[at][0] = select_less(to, node); return;
    case Op::reduce_sum:
    case Op::reduce_max: ids_[at][0] = reduce(to, node); return;
    case Op::write_rows: ids_[at][0] = write_rows(to, node); return;
    case Op::top_k: return sorted_top_k(to, at);
    default: ids_[at][0] = simple(to, node);
  }
}

void Emitter::add_root(Writer& to) {
  std::vector<Type> types;
  std::string names;
  std::map<std::string_view, int64_t> states;  // name → parameter
  const std::vector<Leaf> leaves = parameters(graph_);
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (leaves[i].role != Role::state) continue;
    states[graph_.nodes()[leaves[i].node].attrs.name] = static_cast<int64_t>(i);
  }
  hlo::Instruction& root = to.add("tuple", {});
  for (size_t i = 0; i < graph_.outputs.size(); ++i) {
    const Named& output = graph_.outputs[i];
    root.add_operand_ids(id(output.value));
    types.push_back(graph_.type(output.value));
    names += (i == 0 ? "" : ",") + output.name;
    const auto state = states.find(output.name);
    if (state == states.end()) continue;
    hlo::AliasEntry& alias = *module_.mutable_input_output_alias()->add_entries();
    alias.add_output_shape_index(static_cast<int64_t>(i));
    alias.set_parameter_number(state->second);
    if (dialect_ == HloDialect::xla) alias.set_kind(kMayAlias);
  }
  set_tuple_shape(*root.mutable_shape(), types);
  set_attribute(root, "neff_output_names", names);
}

std::string Emitter::run() {
  for (const Node& node : graph_.nodes()) add_called(node);
  Writer entry(module_, "main", last_id_);
  add_parameters(entry);
  for (uint32_t at = 0; at < graph_.nodes().size(); ++at) add_node(entry, at);
  add_root(entry);
  entry.end();
  const int instructions = entry.computation().instructions_size();
  NG_CHECK(instructions <= static_cast<int>(kNodeLimit), "{} instructions", instructions);
  module_.set_name(graph_.name);
  module_.set_entry_computation_name("main");
  module_.set_entry_computation_id(entry.id());
  *module_.mutable_host_program_shape() = entry.computation().program_shape();
  return to_bytes(module_);
}

std::string k_of(const Node& node) { return fmt::to_string(node.types[0].size(1)); }

}  // namespace

std::span<const CustomCall> neuron_custom_calls() {
  static constexpr CustomCall kCalls[] = {{Op::top_k, "AwsNeuronTopK", k_of}};
  return kCalls;
}

std::string emit_hlo(const Graph& graph, HloDialect dialect, std::span<const CustomCall> calls) {
  const std::string reason = objection(graph);
  NG_CHECK(reason.empty(), "graph {} cannot become HLO: {}", shown(graph.name), reason);
  return Emitter(canonical(graph), dialect, calls).run();
}

}  // namespace ng
