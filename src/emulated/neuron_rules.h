// Would neuronx-cc take a module? What is published of its rules, checked over a module's bytes.
//
// The rules are those of the facts (AWS Neuron SDK 2.32: its documentation, error codes, issues;
// the code of nkipy and transformers-neuronx). The real compiler refuses more, and may take some of
// it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

enum class NeuronRule : uint8_t {
  bytes,
  order,
  ids,
  names,
  interface,
  parameter_used,
  tensor_names,
  alias,
  static_shape,
  layout,
  type_64_bit,
  type_complex,
  type_f8e4m3fn,
  type_fnuz,
  type_other,
  literal_size,
  literal_finite,
  opcode,
  opcode_sort,
  opcode_solver,
  opcode_dynamic,
  custom_call,
  top_k_float,
  top_k_k,
  top_k_width,
  top_k_form,
  reduce_operands,
  reduce_body,
  dot_float,
  gather_form,
  scatter_form,
  scatter_integer,
  all_reduce_integer,
  all_reduce_form,
  index_range,
};

struct NeuronRuleRow {
  NeuronRule rule;
  std::string_view name, code;  // code: of the compiler's error, where it is known
  std::string_view source;
};
std::span<const NeuronRuleRow> neuron_rules();  // in the order of NeuronRule

struct Violation {
  NeuronRule rule;
  std::string where;  // an instruction's name, or the module's
  std::string what;
};
std::string describe(const Violation& violation);  // "[NCC_EVRF029] sort.7: …"

// All violations, at most kViolations; empty: none. Never throws for what `hlo` holds.
std::vector<Violation> neuron_violations(std::string_view hlo);
inline constexpr size_t kViolations = 100;

}  // namespace ng
