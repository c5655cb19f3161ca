#include "backends/xla/module.h"

#include <algorithm>
#include <set>

#include "backends/xla/legal.h"
#include "backends/xla/wire.h"
#include "base/error.h"
#include "ir/replaced.h"
#include "tensor/ranks.h"

namespace ng {
namespace {

// The value of the instruction's only attribute.
std::string attribute(const hlo::Instruction& instruction, std::string_view key) {
  const auto& map = instruction.frontend_attributes().map();
  check(map.size() == 1 && map[0].key() == key, "instruction '{}' has no attribute {}",
        shown(instruction.name()), key);
  return map[0].value();
}

const hlo::Computation& entry_of(const hlo::Module& module) {
  const int count = module.computations_size();
  check(count > 0, "it has no computations");
  const hlo::Computation& entry = module.computations(count - 1);
  check(entry.id() == module.entry_computation_id(), "the entry is not the last computation");
  check(entry.instructions_size() > 0, "the entry has no instructions");
  const auto &program = entry.program_shape(), &host = module.host_program_shape();
  check(to_bytes(program) == to_bytes(host), "host_program_shape is not the entry's");
  check(program.parameters_size() == program.parameter_names_size(), "{} parameters have {} names",
        program.parameters_size(), program.parameter_names_size());
  check(program.parameters_size() < entry.instructions_size(), "the entry has no root");
  return entry;
}

// Parameter `number`, by role.
std::pair<Role, Port> parameter_of(const hlo::Computation& entry, int number) {
  const hlo::Instruction& instruction = entry.instructions(number);
  const hlo::ProgramShape& program = entry.program_shape();
  const std::string& name = program.parameter_names(number);
  check(instruction.opcode() == "parameter" && instruction.parameter_number() == number,
        "instruction '{}' is not parameter {}", shown(instruction.name()), number);
  check(attribute(instruction, "neff_input_names") == name, "parameter {} has two names: '{}'",
        number, shown(name));
  check(to_bytes(instruction.shape()) == to_bytes(program.parameters(number)),
        "parameter '{}' has two shapes", shown(name));
  RoleName named = split_module_name(name);
  check(!named.name.empty(), "parameter {} has no name", number);
  return {named.role, Port{std::move(named.name), type_of(instruction.shape())}};
}

void read_parameters(const hlo::Computation& entry, ModuleInterface& found) {
  std::set<std::pair<bool, std::string>> names;  // of weights, and of the others
  Role last = Role::input;
  for (int i = 0; i < entry.program_shape().parameters_size(); ++i) {
    auto [role, port] = parameter_of(entry, i);
    check(names.emplace(role == Role::weight, port.name).second, "two parameters are named '{}'",
          shown(port.name));
    check(role >= last, "parameter '{}' stands after one of a later kind", shown(port.name));
    last = role;
    std::vector<Port>& ports = role == Role::input   ? found.inputs
                               : role == Role::state ? found.states
                                                     : found.weights;
    ports.push_back(std::move(port));
  }
  for (int i = entry.program_shape().parameters_size(); i < entry.instructions_size(); ++i) {
    check(entry.instructions(i).opcode() != "parameter", "instruction '{}' is one parameter more",
          shown(entry.instructions(i).name()));
  }
}

void read_outputs(const hlo::Computation& entry, ModuleInterface& found) {
  const hlo::Instruction& root = entry.instructions(entry.instructions_size() - 1);
  check(root.id() == entry.root_id() && root.opcode() == "tuple",
        "the entry's last instruction '{}' is not a tuple and its root", shown(root.name()));
  check(to_bytes(root.shape()) == to_bytes(entry.program_shape().result()),
        "the root's shape is not the program's result");
  const std::string names = attribute(root, "neff_output_names");
  std::set<std::string> seen;
  size_t at = 0;
  for (const hlo::Shape& shape : root.shape().tuple_shapes()) {
    check(at <= names.size(), "fewer output names than outputs");
    const size_t end = std::min(names.find(',', at), names.size());
    Port port{names.substr(at, end - at), type_of(shape)};
    at = end + 1;
    check(!port.name.empty() && seen.insert(port.name).second, "output '{}' has no name of its own",
          shown(port.name));
    found.outputs.push_back(std::move(port));
  }
  check(!found.outputs.empty() && at == names.size() + 1, "{} outputs for the names '{}'",
        found.outputs.size(), shown(names));
  check(root.operand_ids_size() == root.shape().tuple_shapes_size(),
        "the root has {} operands for {} outputs", root.operand_ids_size(),
        root.shape().tuple_shapes_size());
}

void read_aliases(const hlo::Module& module, ModuleInterface& found) {
  const size_t first = found.inputs.size(), count = found.states.size();
  for (const hlo::AliasEntry& entry : module.input_output_alias().entries()) {
    check(entry.output_shape_index_size() == 1 && entry.parameter_shape_index_size() == 0,
          "an alias is not of one output and a whole parameter");
    const auto output = static_cast<size_t>(entry.output_shape_index(0));
    const auto parameter = static_cast<size_t>(entry.parameter_number());
    check(output < found.outputs.size(), "an alias is of output {} of {}", output,
          found.outputs.size());
    check(parameter >= first && parameter - first < count,
          "output {} is aliased to parameter {}, which is no state", output, parameter);
    const Port &state = found.states[parameter - first], &port = found.outputs[output];
    check(state.name == port.name && state.type == port.type,
          "output '{}' of {} is aliased to state '{}' of {}", shown(port.name),
          to_string(port.type), shown(state.name), to_string(state.type));
    check(found.aliases.empty() || found.aliases.back().output < output,
          "the aliases are not in the order of outputs");
    found.aliases.push_back({output, parameter});
  }
  check(found.aliases.size() == count, "{} aliases for {} states", found.aliases.size(), count);
  std::set<std::string_view> inputs;
  for (const Port& port : found.inputs) inputs.insert(port.name);
  for (const Port& port : found.outputs) {
    check(!inputs.contains(port.name), "output '{}' has the name of an input that is no state",
          shown(port.name));
  }
}

void read_ranks(const hlo::Computation& entry, ModuleInterface& found) {
  for (const hlo::Instruction& instruction : entry.instructions()) {
    if (instruction.opcode() != "all-reduce") continue;
    check(instruction.replica_groups_size() == 1, "'{}' has {} groups of replicas",
          shown(instruction.name()), instruction.replica_groups_size());
    const auto& ids = instruction.replica_groups(0).replica_ids();
    for (int i = 0; i < ids.size(); ++i) {
      check(ids[i] == i, "'{}': replica {} is {}", shown(instruction.name()), i, ids[i]);
    }
    check(found.ranks == 1 || found.ranks == ids.size(), "'{}' is of {} replicas, others of {}",
          shown(instruction.name()), ids.size(), found.ranks);
    found.ranks = ids.size();
  }
}

void find_replaced(ModuleInterface& found) {
  for (size_t i = 0; i < found.inputs.size(); ++i) {
    const Port& state = found.inputs[i];
    const auto next = std::ranges::find(found.outputs, next_of(state.name), &Port::name);
    if (next == found.outputs.end()) continue;
    check(next->type == state.type, "state '{}' of {} becomes {}", shown(state.name),
          to_string(state.type), to_string(next->type));
    found.replaced.push_back({static_cast<size_t>(next - found.outputs.begin()), i});
  }
}

}  // namespace

ModuleInterface read_interface(std::string_view hlo, std::string_view what) {
  const hlo::Module module = parse_module(hlo, what);
  ModuleInterface found;
  try {
    found.name = module.name();
    const hlo::Computation& entry = entry_of(module);
    read_parameters(entry, found);
    read_outputs(entry, found);
    read_aliases(module, found);
    read_ranks(entry, found);
    find_replaced(found);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", what, error.what()));
  }
  return found;
}

CallerPorts caller_ports(const ModuleInterface& interface, const std::vector<bool>& held) {
  std::vector<bool> is_state(interface.outputs.size());
  for (const auto* states : {&interface.aliases, &interface.replaced}) {
    for (const auto& state : *states) is_state.at(state.output) = true;
  }
  CallerPorts ports;
  for (size_t i = 0; i < is_state.size(); ++i) {
    if (is_state[i]) continue;
    ports.outputs.push_back(interface.outputs[i]);
    ports.output_numbers.push_back(i);
  }
  for (size_t i = 0; i < interface.inputs.size(); ++i) {
    if (!held.at(i)) ports.inputs.push_back(interface.inputs[i]);
  }
  return ports;
}

void check_ranks(const ModuleInterface& interface, int64_t ranks) {
  check(interface.ranks == ranks, "module {} is for {} ranks, not {}", shown(interface.name),
        interface.ranks, ranks);
}

std::vector<Port> of_ranks(std::vector<Port> ports, int64_t ranks) {
  for (Port& port : ports) port.type = of_ranks(std::move(port.type), ranks);
  return ports;
}

void check_arguments(std::span<const Argument> arguments, const std::vector<Port>& ports) {
  NG_CHECK(arguments.size() == ports.size(), "{} buffers for {}", arguments.size(), ports.size());
  for (size_t i = 0; i < ports.size(); ++i) {
    check(arguments[i].type == ports[i].type, "'{}' is {}, the module has exactly {}",
          shown(ports[i].name), to_string(arguments[i].type), to_string(ports[i].type));
  }
}

}  // namespace ng
