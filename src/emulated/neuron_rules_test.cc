#include "emulated/neuron_rules.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <set>

#include "backends/xla/emit_hlo.h"
#include "backends/xla/random_legal_for_test.h"
#include "checkpoint/damage_for_test.h"
#include "emulated/hlo_for_test.h"

namespace ng {
namespace {

using testing::IsEmpty;
using enum NeuronRule;

std::string all(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& violation : violations) text += describe(violation) + "\n";
  return text;
}

using Change = std::function<void(HloForTest&)>;
struct Planted {
  NeuronRule rule;
  Change change;
};

void set_opcode(HloForTest& good, const std::string& opcode) {
  good.find("reduce").set_opcode(opcode);
}

void set_dot_type(HloForTest& good, int32_t type) {
  set_array(*good.find("dot").mutable_shape(), type, {4, 64});
}

void set_top_k_width(HloForTest& good, int64_t width) {
  set_array(*good.find("dot").mutable_shape(), kF32, {4, width});
}

// Another value for the entry's constant.
void set_constant(HloForTest& good, int32_t from, int32_t to) {
  for (hlo::Instruction& constant : *good.main().mutable_instructions()) {
    if (constant.opcode() != "constant") continue;
    auto& numbers = *constant.mutable_literal()->mutable_s32s();
    if (numbers.size() == 1 && numbers[0] == from) return numbers.Set(0, to);
  }
  ADD_FAILURE() << from << " is not there";
}

// One violation of every rule at least; several where a rule says several things.
const std::vector<Planted> kPlanted = {
    {order, [](auto& good) { good.find("reduce").set_operand_ids(0, 4000); }},
    {order, [](auto& good) { good.find("gather").set_operand_ids(0, good.main().root_id()); }},
    {order, [](auto& good) { good.find("reduce").set_called_computation_ids(0, 3); }},
    {order, [](auto& good) { good.main().set_root_id(1); }},
    {order, [](auto& good) { good.module.set_entry_computation_id(1); }},
    {order, [](auto& good) { good.module.clear_computations(); }},
    {ids, [](auto& good) { good.find("iota").set_id(int64_t{1} << 31); }},
    {ids, [](auto& good) { good.find("iota").set_id(1); }},
    {ids, [](auto& good) { good.find("iota").set_id(0); }},
    {ids, [](auto& good) { good.module.mutable_computations(1)->set_id(1); }},
    {names,
     [](auto& good) {
       good.find("iota").set_name("dot.13");
       good.find("dot").set_name("dot.13");
     }},
    {names, [](auto& good) { good.find("iota").clear_name(); }},
    {names, [](auto& good) { good.module.mutable_computations(1)->set_name("add"); }},
    {interface,
     [](auto& good) {
       good.main().mutable_program_shape()->mutable_parameter_names()->RemoveLast();
     }},
    {interface, [](auto& good) { good.find("parameter").set_parameter_number(1); }},
    {interface, [](auto& good) { good.find("parameter").set_parameter_number(-1); }},
    {interface,
     [](auto& good) {
       good.module.mutable_host_program_shape()->mutable_parameters(0)->set_dimensions(0, 5);
     }},
    {interface,
     [](auto& good) {
       good.module.mutable_host_program_shape()
           ->mutable_result()
           ->mutable_tuple_shapes(0)
           ->set_dimensions(0, 5);
     }},
    {interface,
     [](auto& good) {
       set_array(*good.find("constant").mutable_literal()->mutable_shape(), kF32, {});
     }},
    {parameter_used,
     [](auto& good) { good.find("dot").set_operand_ids(1, good.find("dot").operand_ids(0)); }},
    {tensor_names,
     [](auto& good) {
       good.set_attribute(good.find("tuple"), "neff_output_names", "scores,best,ids,cache");
     }},
    {tensor_names,
     [](auto& good) {
       good.set_attribute(good.find("tuple"), "neff_output_names", "scores,best,sum");
     }},
    {tensor_names, [](auto& good) { good.find("tuple").clear_frontend_attributes(); }},
    {tensor_names,
     [](auto& good) { good.set_attribute(good.find("parameter"), "neff_input_names", "other"); }},
    {alias,
     [](auto& good) {
       good.module.mutable_input_output_alias()->mutable_entries(0)->set_parameter_number(2);
     }},
    {alias,
     [](auto& good) {
       good.module.mutable_input_output_alias()->mutable_entries(0)->set_output_shape_index(0, 2);
     }},
    {alias,
     [](auto& good) {
       good.module.mutable_input_output_alias()->mutable_entries(0)->set_output_shape_index(0, 9);
     }},
    {alias,
     [](auto& good) {
       *good.module.mutable_input_output_alias()->add_entries() =
           good.module.input_output_alias().entries(0);
     }},
    {alias, [](auto& good) { good.module.clear_input_output_alias(); }},
    {alias,
     [](auto& good) { good.module.mutable_input_output_alias()->mutable_entries(0)->set_kind(1); }},
    {static_shape,
     [](auto& good) { good.find("reduce").mutable_shape()->set_is_dynamic_dimension(0, true); }},
    {static_shape, [](auto& good) { good.find("reduce").mutable_shape()->set_dimensions(0, -1); }},
    {static_shape,
     [](auto& good) {
       for (auto& size : *good.find("dot").mutable_shape()->mutable_dimensions())
         size = int64_t{1} << 40;
     }},
    {layout,
     [](auto& good) {
       good.find("dot").mutable_shape()->mutable_layout()->set_minor_to_major(0, 0);
     }},
    {layout, [](auto& good) { good.find("dot").mutable_shape()->clear_layout(); }},
    {layout,
     [](auto& good) { good.find("constant").mutable_literal()->mutable_shape()->clear_layout(); }},
    {layout, [](auto& good) { good.find("tuple").mutable_shape()->mutable_layout(); }},
    {type_64_bit, [](auto& good) { good.set_parameter(0, kS64, {4}); }},
    {type_64_bit, [](auto& good) { set_dot_type(good, kF64); }},
    {type_complex, [](auto& good) { set_dot_type(good, kC64); }},
    {type_f8e4m3fn, [](auto& good) { set_dot_type(good, kF8E4M3FN); }},
    {type_fnuz, [](auto& good) { set_dot_type(good, kF8E5M2FNUZ); }},
    {type_other, [](auto& good) { set_dot_type(good, 21); }},
    {literal_size,
     [](auto& good) { set_array(*good.find("constant").mutable_shape(), kS32, {257}); }},
    {literal_finite,
     [](auto& good) {
       good.find("constant").mutable_literal()->add_f32s(-std::numeric_limits<float>::infinity());
     }},
    {literal_finite,
     [](auto& good) { good.find("constant").mutable_literal()->set_bf16s("\x80\xFF"); }},
    {opcode, [](auto& good) { set_opcode(good, "while"); }},
    {opcode, [](auto& good) { set_opcode(good, "conditional"); }},
    {opcode, [](auto& good) { set_opcode(good, "erf"); }},
    {opcode_sort, [](auto& good) { set_opcode(good, "sort"); }},
    {opcode_solver, [](auto& good) { set_opcode(good, "cholesky"); }},
    {opcode_dynamic, [](auto& good) { set_opcode(good, "set-dimension-size"); }},
    {custom_call,
     [](auto& good) { good.find("custom-call").set_custom_call_target("AwsNeuronLayerNorm"); }},
    {top_k_float, [](auto& good) { set_dot_type(good, kS32); }},
    {top_k_k, [](auto& good) { good.find("custom-call").set_backend_config("65"); }},
    {top_k_k, [](auto& good) { good.find("custom-call").set_backend_config("0"); }},
    {top_k_k,
     [](auto& good) {
       set_top_k_width(good, 32768);
       good.find("custom-call").set_backend_config("16385");
     }},
    {top_k_width, [](auto& good) { set_top_k_width(good, 16392); }},
    {top_k_form, [](auto& good) { set_top_k_width(good, 66); }},
    {top_k_form, [](auto& good) { good.find("custom-call").set_backend_config("8x"); }},
    {top_k_form, [](auto& good) { good.find("custom-call").set_backend_config("7"); }},
    {top_k_form, [](auto& good) { set_array(*good.find("dot").mutable_shape(), kF32, {256}); }},
    {reduce_operands,
     [](auto& good) { good.find("reduce").add_operand_ids(good.find("dot").id()); }},
    {reduce_operands,
     [](auto& good) { good.find("reduce").set_operand_ids(1, good.find("dot").id()); }},
    {reduce_body,
     [](auto& good) {
       good.module.mutable_computations(0)->mutable_instructions(2)->set_opcode("subtract");
     }},
    {reduce_body, [](auto& good) { good.find("reduce").clear_called_computation_ids(); }},
    {dot_float,
     [](auto& good) {
       good.set_parameter(2, kS32, {16, 64});
     }},
    {gather_form,
     [](auto& good) {
       good.find("gather").mutable_gather_dimension_numbers()->set_start_index_map(0, 1);
     }},
    {gather_form, [](auto& good) { good.find("gather").clear_gather_slice_sizes(); }},
    {scatter_form, [](auto& good) { good.find("scatter").set_called_computation_ids(0, 1); }},
    {scatter_form,
     [](auto& good) {
       good.find("scatter").mutable_scatter_dimension_numbers()->add_inserted_window_dims(1);
     }},
    {scatter_integer,
     [](auto& good) {
       good.find("scatter").set_called_computation_ids(0, 1);
       set_array(*good.find("scatter").mutable_shape(), kS32, {8, 16});
     }},
    {all_reduce_integer, [](auto& good) { good.find("maximum").set_opcode("all-reduce"); }},
    {all_reduce_form, [](auto& good) { good.find("dot").set_opcode("all-reduce"); }},
    {index_range, [](auto& good) { good.find("minimum").set_opcode("add"); }},
    {index_range, [](auto& good) { good.find("maximum").set_opcode("add"); }},
    {index_range, [](auto& good) { set_constant(good, 7, 8); }},  // of 8 rows
    {index_range, [](auto& good) { set_constant(good, 7, 1'000'000'000); }},
    {index_range, [](auto& good) { set_constant(good, 7, -1); }},
    {index_range, [](auto& good) { set_constant(good, 0, -1); }},
    {index_range,
     [](auto& good) {
       good.set_parameter(1, kF32, {7, 16});
     }},
    {index_range,
     [](auto& good) { good.find("scatter").set_operand_ids(1, good.find("parameter").id()); }},
};

// The rules above are planted where an iota, which nobody reads, may stand.
HloForTest with_iota() {
  HloForTest good;
  hlo::Instruction& iota = *good.main().add_instructions();
  iota.set_opcode("iota");
  iota.set_name("iota.1000");
  iota.set_id(1000);
  set_array(*iota.mutable_shape(), kS32, {4});
  return good;
}

TEST(NeuronRules, TakeAModuleThatKeepsToAll) {
  EXPECT_EQ(all(neuron_violations(with_iota().bytes())), "");
  EXPECT_EQ(all(neuron_violations(HloForTest().bytes())), "");
}

TEST(NeuronRules, EveryPlantedViolationIsFound) {
  for (size_t i = 0; i < kPlanted.size(); ++i) {
    HloForTest module = with_iota();
    kPlanted[i].change(module);
    const std::vector<Violation> found = neuron_violations(module.bytes());
    const bool is_there = std::any_of(found.begin(), found.end(), [&](const Violation& violation) {
      return violation.rule == kPlanted[i].rule;
    });
    EXPECT_TRUE(is_there) << "change " << i << " for "
                          << neuron_rules()[static_cast<size_t>(kPlanted[i].rule)].name << "\n"
                          << all(found);
  }
}

TEST(NeuronRules, EveryRuleHasAViolationAndASource) {
  std::set<NeuronRule> tested = {bytes};  // below
  for (const Planted& one : kPlanted) tested.insert(one.rule);
  for (size_t i = 0; i < neuron_rules().size(); ++i) {
    const NeuronRuleRow& row = neuron_rules()[i];
    EXPECT_EQ(static_cast<size_t>(row.rule), i);
    EXPECT_TRUE(tested.contains(row.rule)) << row.name;
    EXPECT_FALSE(row.source.empty()) << row.name;
  }
  EXPECT_EQ(neuron_rules().size(), static_cast<size_t>(index_range) + 1);
}

TEST(NeuronRules, SayCodeAndPlace) {
  HloForTest module;
  set_opcode(module, "sort");
  EXPECT_THAT(
      all(neuron_violations(module.bytes())),
      testing::HasSubstr("[NCC_EVRF029] reduce.19: the opcode \"sort\" is not supported\n"));
  EXPECT_EQ(all(neuron_violations("no module")),
            "[NCC_EVRF064] module: bytes: no HloModuleProto\n");
}

// Random graphs hold what the Neuron passes keep out: erf, any width of top_k, loose indices.
TEST(NeuronRules, TakeWhatTheEmitterWritesOfRandomGraphs) {
  std::set<std::string> loose;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Graph graph = RandomLegal(seed).graph(20);
    for (const Violation& violation : neuron_violations(emit_hlo(graph, HloDialect::neuron))) {
      const bool is_erf = violation.what.find("\"erf\"") != std::string::npos;
      const bool expected = is_erf || violation.rule == top_k_form || violation.rule == index_range;
      EXPECT_TRUE(expected) << seed << ": " << describe(violation);
      loose.insert(describe(violation));
    }
  }
  EXPECT_FALSE(loose.empty());
}

TEST(NeuronRules, EndWhateverTheBytesAre) {
  std::mt19937_64 random(11);
  const std::string valid = HloForTest().bytes();
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::vector<Violation> found = neuron_violations(damaged(valid, random));
    EXPECT_LE(found.size(), kViolations);
    refused += found.empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 3000);
}

}  // namespace
}  // namespace ng
