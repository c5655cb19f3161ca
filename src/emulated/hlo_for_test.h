// A module that keeps to every rule, and how to change it. For tests.
#pragma once

#include <gtest/gtest.h>
#include <hlo.pb.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "emulated/rule_check.h"

namespace ng {

inline void set_array(hlo::Shape& shape, int32_t type, const std::vector<int64_t>& dims) {
  shape.Clear();
  shape.set_element_type(type);
  shape.mutable_layout()->set_tail_padding_alignment_in_elements(1);
  for (size_t i = 0; i < dims.size(); ++i) {
    shape.add_dimensions(dims[i]);
    shape.add_is_dynamic_dimension(false);
    shape.mutable_layout()->add_minor_to_major(static_cast<int64_t>(dims.size() - 1 - i));
  }
}

class HloForTest {
 public:
  hlo::Module module;

  HloForTest() {
    module.set_name("test");
    body("add", "add");
    body("replace", "");
    begin("main");
    entry();
  }

  std::string bytes() const { return module.SerializeAsString(); }

  hlo::Computation& main() { return *module.mutable_computations()->rbegin(); }

  // The first of the entry's instructions that has this opcode.
  hlo::Instruction& find(std::string_view opcode) {
    for (hlo::Instruction& instruction : *main().mutable_instructions()) {
      if (instruction.opcode() == opcode) return instruction;
    }
    ADD_FAILURE() << opcode << " is not there";
    return *main().mutable_instructions(0);
  }

  static void set_attribute(hlo::Instruction& instruction, const std::string& key,
                            const std::string& value) {
    instruction.mutable_frontend_attributes()->clear_map();
    auto* entry = instruction.mutable_frontend_attributes()->add_map();
    entry->set_key(key);
    entry->set_value(value);
  }

  // Another type for a parameter, where it stands and in the program's shapes.
  void set_parameter(int index, int32_t type, const std::vector<int64_t>& dims) {
    set_array(*main().mutable_instructions(index)->mutable_shape(), type, dims);
    set_array(*main().mutable_program_shape()->mutable_parameters(index), type, dims);
    *module.mutable_host_program_shape() = main().program_shape();
  }

 private:
  int64_t next_id_ = 1;

  void begin(const std::string& name) {
    hlo::Computation& made = *module.add_computations();
    made.set_name(name);
    made.set_id(module.computations_size());
    module.set_entry_computation_name(name);
    module.set_entry_computation_id(made.id());
  }

  hlo::Instruction& add(const std::string& opcode, int32_t type, const std::vector<int64_t>& dims,
                        std::initializer_list<const hlo::Instruction*> operands = {}) {
    hlo::Instruction& made = *main().add_instructions();
    made.set_opcode(opcode);
    made.set_id(next_id_++);
    made.set_name(opcode + "." + std::to_string(made.id()));
    set_array(*made.mutable_shape(), type, dims);
    for (const hlo::Instruction* operand : operands) made.add_operand_ids(operand->id());
    main().set_root_id(made.id());
    return made;
  }

  // Of two scalars; without an opcode it gives the second.
  void body(const std::string& name, const std::string& opcode) {
    begin(name);
    const hlo::Instruction& a = add("parameter", kF32, {});
    hlo::Instruction& b = add("parameter", kF32, {});
    b.set_parameter_number(1);
    if (!opcode.empty()) add(opcode, kF32, {}, {&a, &b});
  }

  hlo::Instruction& parameter(const std::string& name, int32_t type,
                              const std::vector<int64_t>& dims) {
    hlo::Instruction& made = add("parameter", type, dims);
    hlo::ProgramShape& program = *main().mutable_program_shape();
    made.set_parameter_number(program.parameters_size());
    *program.add_parameters() = made.shape();
    program.add_parameter_names(name);
    set_attribute(made, "neff_input_names", name);
    return made;
  }

  hlo::Instruction& constant(int32_t value, int32_t type) {
    hlo::Instruction& made = add("constant", type, {});
    *made.mutable_literal()->mutable_shape() = made.shape();
    if (type == kF32) made.mutable_literal()->add_f32s(static_cast<float>(value));
    if (type == kS32) made.mutable_literal()->add_s32s(value);
    return made;
  }

  void tuple(hlo::Instruction& made, std::initializer_list<const hlo::Instruction*> parts) {
    made.mutable_shape()->Clear();
    made.mutable_shape()->set_element_type(kTuple);
    for (const hlo::Instruction* part : parts)
      *made.mutable_shape()->add_tuple_shapes() = part->shape();
  }

  hlo::Instruction& clamped(const hlo::Instruction& ids, int32_t last) {
    const hlo::Instruction& low = add("broadcast", kS32, {4}, {&constant(0, kS32)});
    const hlo::Instruction& high = add("broadcast", kS32, {4}, {&constant(last, kS32)});
    const hlo::Instruction& above = add("maximum", kS32, {4}, {&ids, &low});
    return add("minimum", kS32, {4}, {&above, &high});
  }

  void entry() {
    const hlo::Instruction& ids = parameter("ids", kS32, {4});
    const hlo::Instruction& cache = parameter("cache.must_alias_input", kF32, {8, 16});
    const hlo::Instruction& weight = parameter("weight.w", kF32, {16, 64});
    const hlo::Instruction& index = clamped(ids, 7);
    hlo::Instruction& gather = add("gather", kF32, {4, 16}, {&cache, &index});
    hlo::GatherDimensions& taken = *gather.mutable_gather_dimension_numbers();
    taken.add_offset_dims(1);
    taken.add_collapsed_slice_dims(0);
    taken.add_start_index_map(0);
    taken.set_index_vector_dim(1);
    gather.add_gather_slice_sizes(1);
    gather.add_gather_slice_sizes(16);
    const hlo::Instruction& dot = add("dot", kF32, {4, 64}, {&gather, &weight});
    hlo::Instruction& scatter = add("scatter", kF32, {8, 16}, {&cache, &index, &gather});
    hlo::ScatterDimensions& written = *scatter.mutable_scatter_dimension_numbers();
    written.add_update_window_dims(1);
    written.add_inserted_window_dims(0);
    written.add_scatter_dims_to_operand_dims(0);
    written.set_index_vector_dim(1);
    scatter.add_called_computation_ids(2);
    hlo::Instruction& reduce = add("reduce", kF32, {4}, {&dot, &constant(0, kF32)});
    reduce.add_dimensions(1);
    reduce.add_called_computation_ids(1);
    outputs(dot, reduce, scatter);
  }

  void outputs(const hlo::Instruction& dot, const hlo::Instruction& sum,
               const hlo::Instruction& cache) {
    hlo::Instruction& top_k = add("custom-call", kF32, {}, {&dot});
    top_k.set_custom_call_target("AwsNeuronTopK");
    top_k.set_backend_config("8");
    const hlo::Instruction& scores = add("get-tuple-element", kF32, {4, 8}, {&top_k});
    hlo::Instruction& best = add("get-tuple-element", kS32, {4, 8}, {&top_k});
    best.set_tuple_index(1);
    tuple(top_k, {&scores, &best});
    hlo::Instruction& root = add("tuple", kF32, {}, {&scores, &best, &sum, &cache});
    tuple(root, {&scores, &best, &sum, &cache});
    set_attribute(root, "neff_output_names", "scores,best,sum,cache");
    *main().mutable_program_shape()->mutable_result() = root.shape();
    *module.mutable_host_program_shape() = main().program_shape();
    hlo::AliasEntry& alias = *module.mutable_input_output_alias()->add_entries();
    alias.add_output_shape_index(3);
    alias.set_parameter_number(1);
  }
};

}  // namespace ng
