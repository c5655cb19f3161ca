// Do a module's inputs and outputs keep to the rules?
#include <set>

#include "emulated/rule_check.h"

namespace ng {
namespace {

using enum NeuronRule;

constexpr int kMustAlias = 2;  // 0, undefined, is read as "must"

std::string attribute(const hlo::Instruction& instruction, std::string_view key) {
  for (const auto& entry : instruction.frontend_attributes().map()) {
    if (entry.key() == key) return entry.value();
  }
  return "";
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    names.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return names;
}

bool same_types(const hlo::ProgramShape& a, const hlo::ProgramShape& b) {
  const auto same = [](const hlo::Shape& x, const hlo::Shape& y) {
    return same_array(x, y) &&
           std::equal(x.tuple_shapes().begin(), x.tuple_shapes().end(), y.tuple_shapes().begin(),
                      y.tuple_shapes().end(), same_array);
  };
  return std::equal(a.parameters().begin(), a.parameters().end(), b.parameters().begin(),
                    b.parameters().end(), same) &&
         same(a.result(), b.result());
}

using Parameters = std::map<int64_t, const hlo::Instruction*>;

Parameters parameters_of(RuleCheck& check, const hlo::Computation& entry) {
  Parameters parameters;
  std::set<int64_t> used;
  for (const hlo::Instruction& instruction : entry.instructions()) {
    for (const int64_t operand : instruction.operand_ids()) used.insert(operand);
  }
  for (const hlo::Instruction& instruction : entry.instructions()) {
    if (instruction.opcode() != "parameter") continue;
    const int64_t number = instruction.parameter_number();
    check.require(parameters.emplace(number, &instruction).second, interface, instruction.name(),
                  "the parameter {} is there twice", number);
    check.require(used.contains(instruction.id()), parameter_used, instruction.name(),
                  "the parameter {} is not used: the compiler drops it", number);
  }
  return parameters;
}

void check_program_shape(RuleCheck& check, const hlo::Computation& entry,
                         const Parameters& parameters) {
  const hlo::ProgramShape& shape = entry.program_shape();
  const auto count = static_cast<size_t>(shape.parameters_size());
  check.require(
      parameters.size() == count && shape.parameter_names_size() == shape.parameters_size(),
      interface, entry.name(), "{} parameters, {} in its program shape, with {} names",
      parameters.size(), count, shape.parameter_names_size());
  for (const auto& [number, parameter] : parameters) {
    const bool is_there =
        number >= 0 && number < shape.parameters_size() && number < shape.parameter_names_size();
    check.require(is_there, interface, parameter->name(),
                  "the parameter {} is not in the program "
                  "shape",
                  number);
    if (!is_there) continue;
    const auto index = static_cast<int>(number);
    check.require(same_array(shape.parameters(index), parameter->shape()), interface,
                  parameter->name(), "the program shape has another type");
    check.require(
        attribute(*parameter, "neff_input_names") == shape.parameter_names(index), tensor_names,
        parameter->name(), "neff_input_names is \"{}\", the program shape says \"{}\"",
        shown(attribute(*parameter, "neff_input_names")), shown(shape.parameter_names(index)));
  }
  check.require(same_types(shape, check.module.host_program_shape()), interface, entry.name(),
                "host_program_shape is another");
}

std::vector<std::string> output_names(RuleCheck& check, const hlo::Instruction& root) {
  const std::vector<std::string> outputs = split(attribute(root, "neff_output_names"));
  const int count = root.opcode() == "tuple" ? root.operand_ids_size() : 1;
  check.require(outputs.size() == static_cast<size_t>(count), tensor_names, root.name(),
                "{} outputs, neff_output_names has {}", count, outputs.size());
  return outputs;
}

// One namespace: names of inputs and of outputs.
void check_tensor_names(RuleCheck& check, const Parameters& parameters,
                        const hlo::Instruction& root) {
  std::set<std::string> all;
  const auto add = [&](const std::string& name, std::string_view where) {
    check.require(!name.empty() && name.size() < 256, tensor_names, where,
                  "the tensor's name has {} bytes, 1 to 255 are possible", name.size());
    check.require(all.insert(name).second, tensor_names, where,
                  "two tensors, inputs or outputs, are called \"{}\"", shown(name));
  };
  for (const auto& [number, parameter] : parameters) {
    add(attribute(*parameter, "neff_input_names"), parameter->name());
  }
  for (const std::string& name : output_names(check, root)) add(name, root.name());
}

void check_aliases(RuleCheck& check, const Parameters& parameters, const hlo::Instruction& root) {
  constexpr std::string_view kSuffix = ".must_alias_input";
  const std::vector<std::string> outputs = split(attribute(root, "neff_output_names"));
  std::set<int64_t> aliased_outputs, aliased_parameters;
  for (const hlo::AliasEntry& entry : check.module.input_output_alias().entries()) {
    const int64_t number = entry.parameter_number();
    const int64_t output = entry.output_shape_index_size() == 1 ? entry.output_shape_index(0) : -1;
    const auto parameter = parameters.find(number);
    const bool exists = parameter != parameters.end() && output >= 0 &&
                        output < root.operand_ids_size() && entry.parameter_shape_index_size() == 0;
    check.require(exists, alias, root.name(), "output {} and parameter {}: one is not there",
                  output, number);
    if (!exists) continue;
    check.require(aliased_outputs.insert(output).second && aliased_parameters.insert(number).second,
                  alias, root.name(), "output {} or parameter {} has two aliases", output, number);
    check.require(entry.kind() == 0 || entry.kind() == kMustAlias, alias, root.name(),
                  "the alias of output {} is of kind {}: a state must stay where it is", output,
                  entry.kind());
    const hlo::Instruction* value = check.operand(root, static_cast<int>(output));
    check.require(value != nullptr && same_array(value->shape(), parameter->second->shape()), alias,
                  root.name(), "output {} and parameter {} are of different types", output, number);
    const std::string input = attribute(*parameter->second, "neff_input_names");
    const bool named = static_cast<size_t>(output) < outputs.size() &&
                       input == outputs[static_cast<size_t>(output)] + std::string(kSuffix);
    check.require(named, alias, root.name(), "output {} is aliased to the input \"{}\"", output,
                  shown(input));
  }
  for (const auto& [number, parameter] : parameters) {
    const bool is_state = attribute(*parameter, "neff_input_names").ends_with(kSuffix);
    check.require(!is_state || aliased_parameters.contains(number), alias, parameter->name(),
                  "it is called a state and has no alias");
  }
}

}  // namespace

void check_entry(RuleCheck& check, const hlo::Computation& entry) {
  const Parameters parameters = parameters_of(check, entry);
  check_program_shape(check, entry, parameters);
  const auto root = check.instructions.find(entry.root_id());
  if (root == check.instructions.end()) return;  // check_order says so
  check_tensor_names(check, parameters, *root->second);
  check_aliases(check, parameters, *root->second);
}

}  // namespace ng
