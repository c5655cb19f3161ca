// Do single instructions keep to the rules?
#include <cfloat>
#include <charconv>
#include <cmath>

#include "emulated/rule_check.h"

namespace ng {
namespace {

using enum NeuronRule;

constexpr int64_t kTopKWidth = 16384;
constexpr int64_t kLiteralBytes = 1024;

// SDK's table of supported operators, and what AWS's own emitters use without it.
constexpr std::string_view kOpcodes =
    "abs add all-gather all-reduce all-to-all and atan2 bitcast-convert broadcast call "
    "ceil clamp collective-permute compare concatenate constant convert copy cosine "
    "custom-call divide dot dynamic-slice dynamic-update-slice exponential floor gather "
    "get-tuple-element iota log logistic maximum minimum multiply negate not or pad "
    "parameter reduce reduce-scatter reshape reverse rsqrt scatter select sign sine slice "
    "sqrt subtract tanh transpose tuple xor";

constexpr std::string_view kCustomCalls =
    "AwsNeuronArgMax AwsNeuronArgMin AwsNeuronErf AwsNeuronGelu AwsNeuronGeluApprxTanh "
    "AwsNeuronRmsNorm AwsNeuronSilu AwsNeuronSoftmax AwsNeuronTopK";

// Is `name` one of the words of `list`?
bool is_in(std::string_view name, std::string_view list) {
  const bool is_word = name.find(' ') == std::string_view::npos;
  return is_word && fmt::format(" {} ", list).find(fmt::format(" {} ", name)) != std::string::npos;
}

NeuronRule rule_of_type(int32_t type) {
  switch (type) {
    case kS64:
    case kU64:
    case kF64:
    case kC128: return type_64_bit;
    case kC64: return type_complex;
    case kF8E4M3FN: return type_f8e4m3fn;
    case kF8E4M3B11FNUZ:
    case kF8E5M2FNUZ:
    case kF8E4M3FNUZ: return type_fnuz;
    default: return type_other;
  }
}

bool is_known_type(int32_t type) {
  return type == kPred || type == kS8 || type == kS32 || type == kU8 || type == kU32 ||
         is_float(type);
}

// The exact number of elements, -1 where it is out of all bounds.
int64_t elements(const hlo::Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape.dimensions()) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return -1;
  }
  return count;
}

void check_layout(RuleCheck& check, const hlo::Shape& shape, std::string_view where) {
  const int rank = shape.dimensions_size();
  bool good = shape.has_layout() && shape.layout().minor_to_major_size() == rank &&
              shape.layout().tail_padding_alignment_in_elements() == 1;
  for (int i = 0; good && i < rank; ++i) good = shape.layout().minor_to_major(i) == rank - 1 - i;
  check.require(good, layout, where, "its layout is not row-major with a padding alignment of 1");
}

NeuronRule rule_of_opcode(std::string_view name) {
  if (name == "sort" || name == "topk") return opcode_sort;
  if (is_in(name, "fft cholesky triangular-solve")) return opcode_solver;
  return is_in(name, "set-dimension-size get-dimension-size dynamic-reshape") ? opcode_dynamic
                                                                              : opcode;
}

void check_literal(RuleCheck& check, const hlo::Instruction& constant) {
  const int64_t count = elements(constant.shape());
  check.require(count >= 0 && count <= kLiteralBytes / 4, literal_size, constant.name(),
                "a constant of {} elements: {} bytes at most", count, kLiteralBytes);
  check.require(constant.has_literal() && same_array(constant.literal().shape(), constant.shape()),
                interface, constant.name(), "its literal is of another type");
  check_shape(check, constant.literal().shape(), constant.name());
  bool finite = true;
  for (const float value : constant.literal().f32s()) finite &= std::isfinite(value);
  const std::string& bf16 = constant.literal().bf16s();  // little endian
  for (size_t i = 0; i + 1 < bf16.size(); i += 2) {
    finite &= (bf16[i + 1] & 0x7F) != 0x7F || (bf16[i] & 0x80) == 0;
  }
  check.require(finite, literal_finite, constant.name(),
                "a constant that is not finite makes NaN: take the lowest float");
}

// x [rows, n] → (values [rows, k], indices [rows, k])
void check_top_k(RuleCheck& check, const hlo::Instruction& call, const hlo::Shape& x) {
  const std::string_view where = call.name();
  const std::string& config = call.backend_config();
  int64_t k = 0;
  const auto [end, error] = std::from_chars(config.data(), config.data() + config.size(), k);
  const bool is_number = error == std::errc() && end == config.data() + config.size();
  check.require(is_number, top_k_form, where, "backend_config \"{}\" is no k", shown(config));
  check.require(is_float(x.element_type()), top_k_float, where, "its operand is not of floats");
  check.require(x.dimensions_size() == 2, top_k_form, where, "its operand has {} axes, not 2",
                x.dimensions_size());
  if (!is_number || x.dimensions_size() != 2) return;
  const int64_t width = x.dimensions(1);
  check.require(k >= 1 && k <= kTopKWidth && k <= width, top_k_k, where,
                "k = {} of {} columns: 1 to 16384, and no more than columns", k, width);
  check.require(width <= kTopKWidth, top_k_width, where, "{} columns: 16384 at most", width);
  check.require(width % 8 == 0, top_k_form, where, "{} columns: not a multiple of 8", width);
  const auto& parts = call.shape().tuple_shapes();
  bool good = parts.size() == 2 && parts[0].element_type() == x.element_type() &&
              (parts[1].element_type() == kS32 || parts[1].element_type() == kU32);
  for (const hlo::Shape& part : parts) {
    good &= part.dimensions_size() == 2 && part.dimensions(0) == x.dimensions(0) &&
            part.dimensions(1) == k;
  }
  check.require(good, top_k_form, where, "its result is not (values, 32-bit indices) of [rows, k]");
}

void check_custom_call(RuleCheck& check, const hlo::Instruction& call) {
  const std::string& target = call.custom_call_target();
  check.require(is_in(target, kCustomCalls), custom_call, call.name(),
                "the target \"{}\" is not known", shown(target));
  if (target != "AwsNeuronTopK") return;
  const hlo::Instruction* x = check.operand(call, 0);
  check.require(x != nullptr && call.operand_ids_size() == 1, top_k_form, call.name(),
                "{} operands, not 1", call.operand_ids_size());
  if (x != nullptr) check_top_k(check, call, x->shape());
}

// The opcode of a body of two parameters and one instruction; "parameter": it gives one of them.
std::string body_opcode(const RuleCheck& check, const hlo::Instruction& caller) {
  const hlo::Computation* body = check.called(caller);
  if (body == nullptr) return "";
  for (const hlo::Instruction& instruction : body->instructions()) {
    if (instruction.id() == body->root_id()) return instruction.opcode();
  }
  return "";
}

void check_reduce(RuleCheck& check, const hlo::Instruction& reduce) {
  const hlo::Instruction* init = check.operand(reduce, 1);
  check.require(reduce.operand_ids_size() == 2 && init != nullptr && init->opcode() == "constant",
                reduce_operands, reduce.name(), "{} operands: one and a constant to begin with",
                reduce.operand_ids_size());
  const std::string body = body_opcode(check, reduce);
  const hlo::Computation* called = check.called(reduce);
  check.require(called != nullptr && called->instructions_size() == 3 &&
                    is_in(body, "add maximum minimum multiply"),
                reduce_body, reduce.name(), "its body is \"{}\": add, maximum, minimum or multiply",
                shown(body));
}

void check_dot(RuleCheck& check, const hlo::Instruction& dot) {
  for (int i = 0; i < 2; ++i) {
    const hlo::Instruction* operand = check.operand(dot, i);
    check.require(operand != nullptr && is_float(operand->shape().element_type()), dot_float,
                  dot.name(), "operand {} is not of floats", i);
  }
}

// Is it a constant from 0 to rows - 1, everywhere the same?
bool is_row(const RuleCheck& check, const hlo::Instruction* value, int64_t rows) {
  if (value != nullptr && value->opcode() == "broadcast") value = check.operand(*value, 0);
  if (value == nullptr || value->opcode() != "constant") return false;
  const auto& numbers = value->literal().s32s();
  return numbers.size() == 1 && numbers[0] >= 0 && numbers[0] < rows;
}

// A minimum and a maximum with rows, one of the other: either order stays among the rows.
bool is_clamped(const RuleCheck& check, const hlo::Instruction& index, int64_t rows) {
  const std::string_view other = index.opcode() == "minimum" ? "maximum" : "minimum";
  for (int i = 0; i < 2; ++i) {
    const hlo::Instruction* side = check.operand(index, i);
    if (side == nullptr || side->opcode() != other) continue;
    const bool inner = is_row(check, check.operand(*side, 0), rows) ||
                       is_row(check, check.operand(*side, 1), rows);
    if (inner && is_row(check, check.operand(index, 1 - i), rows)) return true;
  }
  return false;
}

// Does every value come from a clamp to `rows` rows, or from what is in range by its making?
bool is_in_range(const RuleCheck& check, const hlo::Instruction* index, int64_t rows,
                 int depth = 0) {
  if (index == nullptr || depth > 16) return false;
  const std::string& op = index->opcode();
  if (op == "clamp") {
    return is_row(check, check.operand(*index, 0), rows) &&
           is_row(check, check.operand(*index, 2), rows);
  }
  if (op == "constant") return is_row(check, index, rows);
  if (op == "iota") {
    const auto axis = index->dimensions_size() == 1 ? index->dimensions(0) : -1;
    return axis >= 0 && axis < index->shape().dimensions_size() &&
           index->shape().dimensions(static_cast<int>(axis)) <= rows;
  }
  if (op == "get-tuple-element") {
    const hlo::Instruction* call = check.operand(*index, 0);
    if (call == nullptr || call->custom_call_target() != "AwsNeuronTopK") return false;
    const hlo::Instruction* x = check.operand(*call, 0);
    return x != nullptr && x->shape().dimensions_size() == 2 && x->shape().dimensions(1) <= rows;
  }
  if (is_in(op, "minimum maximum")) return is_clamped(check, *index, rows);
  if (!is_in(op, "reshape transpose broadcast slice copy concatenate convert")) {
    return false;
  }
  for (int i = 0; i < index->operand_ids_size(); ++i) {
    if (!is_in_range(check, check.operand(*index, i), rows, depth + 1)) return false;
  }
  return index->operand_ids_size() > 0;
}

void check_indices(RuleCheck& check, const hlo::Instruction& by, NeuronRule form) {
  const hlo::Instruction* index = check.operand(by, 1);
  const int32_t type = index == nullptr ? 0 : index->shape().element_type();
  check.require(type == kS32 || type == kU32, form, by.name(), "its indices are not of 32 bits");
  const hlo::Instruction* table = check.operand(by, 0);
  const bool has_rows = table != nullptr && table->shape().dimensions_size() > 0;
  const int64_t rows = has_rows ? table->shape().dimensions(0) : 0;
  check.require(is_in_range(check, index, rows), index_range, by.name(),
                "its indices are not clamped to its {} rows: one outside ends the execution", rows);
}

void check_gather(RuleCheck& check, const hlo::Instruction& gather) {
  const hlo::GatherDimensions& numbers = gather.gather_dimension_numbers();
  const hlo::Instruction* indices = check.operand(gather, 1);
  const bool rows = numbers.collapsed_slice_dims_size() == 1 &&
                    numbers.collapsed_slice_dims(0) == 0 && numbers.start_index_map_size() == 1 &&
                    numbers.start_index_map(0) == 0 && gather.gather_slice_sizes_size() > 0 &&
                    gather.gather_slice_sizes(0) == 1 && indices != nullptr &&
                    numbers.index_vector_dim() == indices->shape().dimensions_size();
  check.require(rows, gather_form, gather.name(), "it does not take whole rows of axis 0");
  check_indices(check, gather, gather_form);
}

void check_scatter(RuleCheck& check, const hlo::Instruction& scatter) {
  const hlo::ScatterDimensions& numbers = scatter.scatter_dimension_numbers();
  const bool rows = scatter.operand_ids_size() == 3 && numbers.inserted_window_dims_size() == 1 &&
                    numbers.inserted_window_dims(0) == 0 &&
                    numbers.scatter_dims_to_operand_dims_size() == 1 &&
                    numbers.scatter_dims_to_operand_dims(0) == 0;
  check.require(rows, scatter_form, scatter.name(), "it does not write whole rows of axis 0");
  const std::string body = body_opcode(check, scatter);
  const bool replaces = is_in(body, "parameter copy");
  check.require(replaces || !is_integer(scatter.shape().element_type()), scatter_integer,
                scatter.name(), "arithmetic on integers runs in f32");
  check.require(replaces, scatter_form, scatter.name(), "its body is \"{}\": it must replace",
                shown(body));
  check_indices(check, scatter, scatter_form);
}

void check_all_reduce(RuleCheck& check, const hlo::Instruction& sum) {
  check.require(is_float(sum.shape().element_type()), all_reduce_integer, sum.name(),
                "integers run in f32");
  bool good = sum.operand_ids_size() == 1 && sum.replica_groups_size() == 1;
  for (int i = 0; good && i < sum.replica_groups(0).replica_ids_size(); ++i) {
    good = sum.replica_groups(0).replica_ids(i) == i;
  }
  check.require(good && sum.replica_groups(0).replica_ids_size() > 1, all_reduce_form, sum.name(),
                "it is not over one group of replicas 0, 1, …");
  check.require(body_opcode(check, sum) == "add", all_reduce_form, sum.name(),
                "its body is \"{}\": add", shown(body_opcode(check, sum)));
}

}  // namespace

void check_shape(RuleCheck& check, const hlo::Shape& shape, std::string_view where) {
  if (shape.element_type() == kTuple) {
    check.require(!shape.has_layout(), layout, where, "a tuple has no layout");
    for (const hlo::Shape& part : shape.tuple_shapes()) check_shape(check, part, where);
    return;
  }
  const int32_t type = shape.element_type();
  check.require(is_known_type(type), rule_of_type(type), where, "the element type {}", type);
  const auto& dynamic = shape.is_dynamic_dimension();
  check.require(std::none_of(dynamic.begin(), dynamic.end(), [](bool is) { return is; }) &&
                    dynamic.size() == shape.dimensions_size() && elements(shape) >= 0,
                static_shape, where, "a size that is not fixed");
  check_layout(check, shape, where);
}

void check_instruction(RuleCheck& check, const hlo::Instruction& instruction) {
  const std::string& name = instruction.opcode();
  check.require(is_in(name, kOpcodes), rule_of_opcode(name), instruction.name(),
                "the opcode \"{}\" is not supported", shown(name));
  if (name == "constant") check_literal(check, instruction);
  if (name == "custom-call") check_custom_call(check, instruction);
  if (name == "reduce") check_reduce(check, instruction);
  if (name == "dot") check_dot(check, instruction);
  if (name == "gather") check_gather(check, instruction);
  if (name == "scatter") check_scatter(check, instruction);
  if (name == "all-reduce") check_all_reduce(check, instruction);
}

}  // namespace ng
