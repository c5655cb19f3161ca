#include "emulated/neuron_rules.h"

#include <limits>
#include <set>

#include "backends/xla/wire.h"
#include "emulated/rule_check.h"

namespace ng {
namespace {

using enum NeuronRule;

// "SDK": github aws-neuron/aws-neuron-sdk 2.32; "#n": its issues.
constexpr NeuronRuleRow kRules[] = {
    {bytes, "bytes", "NCC_EVRF064", "SDK error-codes/EVRF064: HLO is verified; 2 GB: #582"},
    {order, "order", "", "nkipy hlo.py: callees first, entry last; XLA CreateFromProto"},
    {ids, "ids", "", "pytorch/xla#9685: unique in the module and <= INT_MAX"},
    {names, "names", "", "XLA CreateFromProto: unique names"},
    {interface, "interface", "", "nkipy hlo.py; XLA: host_program_shape equals the entry's"},
    {parameter_used, "parameter-used", "", "torch_neuronx trace.py: unused inputs are dropped"},
    {tensor_names, "tensor-names", "", "nkipy test_alias.py: inputs and outputs share names"},
    {alias, "alias", "", "nkipy hlo.py: input_output_alias"},
    {static_shape, "static-shape", "NCC_EMOD025", "SDK error-codes/EMOD025"},
    {layout, "layout", "", "nkipy hlo.py: row-major layout on every array"},
    {type_64_bit, "type-64-bit", "NCC_ESFH002", "SDK neuronx-cc reference, --native-int64"},
    {type_complex, "type-complex", "NCC_EVRF004", "SDK error-codes/EVRF004"},
    {type_f8e4m3fn, "type-f8e4m3fn", "NCC_EVRF051", "SDK error-codes/EVRF051"},
    {type_fnuz, "type-fnuz", "NCC_EVRF005", "SDK error-codes/EVRF005"},
    {type_other, "type-other", "", "what AWS's own emitters use"},
    {literal_size, "literal-size", "", "#582: weights are parameters; 1 KiB is our limit"},
    {literal_finite, "literal-finite", "", "transformers-neuronx: finite masks, no NaN"},
    {opcode, "opcode", "", "SDK release-notes/components/compiler.rst, Supported XLA Operators"},
    {opcode_sort, "opcode-sort", "NCC_EVRF029", "reported for trn2; #1339"},
    {opcode_solver, "opcode-solver", "NCC_EVRF001", "SDK error-codes/EVRF001"},
    {opcode_dynamic, "opcode-dynamic", "NCC_EMOD025", "#1144; SDK error-codes/EMOD025"},
    {custom_call, "custom-call", "NCC_EVRF015", "SDK error-codes/EVRF015"},
    {top_k_float, "top-k-float", "NCC_EVRF013", "SDK error-codes/EVRF013"},
    {top_k_k, "top-k-k", "NCC_EVRF014", "#1339"},
    {top_k_width, "top-k-width", "NCC_INAS001", "measured on trn2: 16384 works, 32768 fails"},
    {top_k_form, "top-k-form", "", "transformers-neuronx hlo.py; rows padded to 8"},
    {reduce_operands, "reduce-operands", "", "Supported XLA Operators: one operand, constant init"},
    {reduce_body, "reduce-body", "", "Supported XLA Operators: min, max, add, mul"},
    {dot_float, "dot-float", "NCC_EVRF035", "SDK error-codes/EVRF035: integers run in f32"},
    {gather_form, "gather-form", "", "transformers-neuronx _embedding, index_select"},
    {scatter_form, "scatter-form", "", "transformers-neuronx update_cache; NxDI Whisper"},
    {scatter_integer, "scatter-integer", "NCC_EVRF060", "SDK error-codes/EVRF060"},
    {all_reduce_integer, "all-reduce-integer", "NCC_EVRF061", "SDK error-codes/EVRF061"},
    {all_reduce_form, "all-reduce-form", "",
     "nkipy and transformers-neuronx: body add, one group of all replicas, no channel"},
    {index_range, "index-range", "", "#1335: NRT_EXEC_OOB; indices are not clamped"},
};

// Every id, operand and call of one computation; what came before is known to `check`.
void check_order(RuleCheck& check, const hlo::Computation& computation) {
  std::set<int64_t> here;
  for (const hlo::Instruction& instruction : computation.instructions()) {
    const std::string_view where = instruction.name();
    const int64_t id = instruction.id();
    check.require(id >= 1 && id <= std::numeric_limits<int32_t>::max(), ids, where,
                  "its id {} is not in [1, 2147483647]", id);
    check.require(!check.instructions.contains(id), ids, where, "its id {} is used twice", id);
    for (const int64_t operand : instruction.operand_ids()) {
      check.require(here.contains(operand), order, where,
                    "its operand {} does not stand before it in its computation", operand);
    }
    for (const int64_t callee : instruction.called_computation_ids()) {
      check.require(check.computations.contains(callee), order, where,
                    "the computation {} that it calls does not stand before its own", callee);
    }
    check_shape(check, instruction.shape(), where);
    check_instruction(check, instruction);
    here.insert(id);
    check.instructions.emplace(id, &instruction);
  }
  check.require(here.contains(computation.root_id()), order, computation.name(),
                "its root {} is none of its instructions", computation.root_id());
}

void check_names(RuleCheck& check) {
  std::set<std::string_view> instructions, computations;
  for (const hlo::Computation& computation : check.module.computations()) {
    check.require(!computation.name().empty() && computations.insert(computation.name()).second,
                  names, computation.name(), "the computation has no name of its own");
    for (const hlo::Instruction& instruction : computation.instructions()) {
      check.require(!instruction.name().empty() && instructions.insert(instruction.name()).second,
                    names, instruction.name(), "the instruction has no name of its own");
    }
  }
}

void check_module(RuleCheck& check) {
  const hlo::Module& module = check.module;
  const std::string_view where = module.name();
  check.require(module.computations_size() > 0, order, where, "there is no computation");
  if (module.computations_size() == 0) return;
  check_names(check);
  for (const hlo::Computation& computation : module.computations()) {
    const int64_t id = computation.id();
    check.require(id >= 1 && id <= std::numeric_limits<int32_t>::max(), ids, computation.name(),
                  "its id {} is not in [1, 2147483647]", id);
    check.require(!check.computations.contains(id), ids, computation.name(),
                  "its id {} is used twice", id);
    check_order(check, computation);
    check.computations.emplace(id, &computation);
  }
  const hlo::Computation& entry = *module.computations().rbegin();
  check.require(module.entry_computation_id() == entry.id() &&
                    module.entry_computation_name() == entry.name(),
                order, where, "the entry {} is not the last computation",
                module.entry_computation_id());
  check_entry(check, entry);
}

}  // namespace

std::span<const NeuronRuleRow> neuron_rules() { return kRules; }

std::string describe(const Violation& violation) {
  const NeuronRuleRow& row = kRules[static_cast<size_t>(violation.rule)];
  return fmt::format("[{}] {}: {}", row.code.empty() ? row.name : row.code, violation.where,
                     violation.what);
}

std::vector<Violation> neuron_violations(std::string_view hlo) {
  try {
    const hlo::Module module = parse_module(hlo, "bytes");
    RuleCheck check(module);
    check_module(check);
    return std::move(check.found);
  } catch (const Error& error) {
    return {{bytes, "module", error.what()}};
  }
}

}  // namespace ng
