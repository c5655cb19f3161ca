// Is a module that is not ours refused, by name, whatever it holds?
#include "backends/xla/import_hlo.h"

#include "backends/xla/emit_hlo.h"
#include "backends/xla/module.h"
#include "backends/xla/random_legal_for_test.h"
#include "backends/xla/wire.h"
#include "checkpoint/damage_for_test.h"
#include "ir/interpret.h"
#include "ir/test_run.h"

namespace ng {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// One of everything that has more to it than operands.
Graph all_kinds() {
  Graph graph("decode");
  const Value x = input(graph, "x", {DType::f32, {2, 4}});
  const Value index = input(graph, "index", {DType::s32, {2}});
  const Value state = input(graph, "state", {DType::f32, {3, 4}});
  const Value w = weight(graph, "w", {DType::f32, {4, 4}});
  const Value y = dot(graph, x, w);
  const Value zero = broadcast(graph, constant(graph, {0.5}, {DType::f32, {}}), {2}, {});
  const Value sum = reduce(graph, Op::reduce_sum, y);
  const Value most = reduce(graph, Op::reduce_max, y);
  const Value less = select_less(graph, index, iota(graph, {DType::s32, {2}}, 0), sum, zero);
  const Value best = top_k(graph, gather_rows(graph, y, index), 2);
  const Value left = slice(graph, transpose(graph, y, {1, 0}), 0, 1, 2);
  graph.outputs = {{"less", less},   {"most", most},
                   {"scores", best}, {"ids", {best.node, 1}},
                   {"left", left},   {"state", write_rows(graph, state, y, index)}};
  verify(graph);
  return graph;
}

// Of two ranks.
Graph summed() {
  Graph graph("decode");
  const Value x = input(graph, "x", {DType::f32, {2, 4}});
  const Value sum = all_reduce(graph, dot(graph, x, weight(graph, "w", {DType::f32, {4, 4}})), 2);
  graph.outputs = {{"sum", sum}, {"row", reduce(graph, Op::reduce_sum, sum)}};
  verify(graph);
  return graph;
}

TEST(ImportHlo, GivesSumsOfRanksBack) {
  for (const HloDialect dialect : {HloDialect::xla, HloDialect::neuron}) {
    const std::string bytes = emit_hlo(summed(), dialect);
    const Graph graph = import_hlo(bytes, "a.pb");
    EXPECT_EQ(ranks_of(graph), 2);
    EXPECT_EQ(emit_hlo(graph, dialect), bytes);
    EXPECT_EQ(read_interface(bytes, "a.pb").ranks, 2);
    EXPECT_THAT(refusal([&] { check_ranks(read_interface(bytes, "a.pb"), 1); }),
                HasSubstr("module decode is for 2 ranks, not 1"));
  }
}

TEST(ImportHlo, RefusesGroupsThatAreNotAllRanks) {
  const auto refused = [](const std::function<void(hlo::Instruction&)>& change) {
    hlo::Module module = parse_module(emit_hlo(summed(), HloDialect::xla), "module");
    for (auto& instruction : *module.mutable_computations()->rbegin()->mutable_instructions()) {
      if (instruction.opcode() == "all-reduce") change(instruction);
    }
    return refusal([&] { import_hlo(to_bytes(module), "a.pb"); });
  };
  EXPECT_THAT(refused([](auto& i) { i.clear_replica_groups(); }), HasSubstr("0 groups"));
  EXPECT_THAT(refused([](auto& i) { i.add_replica_groups(); }), HasSubstr("2 groups"));
  EXPECT_THAT(refused([](auto& i) { i.mutable_replica_groups(0)->set_replica_ids(1, 7); }),
              HasSubstr("replica 1 is 7"));
  EXPECT_THAT(refused([](auto& i) {
                for (int more = 2; more < 65; ++more)
                  i.mutable_replica_groups(0)->add_replica_ids(more);
              }),
              HasSubstr("2 to 64"));
}

using Change = std::function<void(hlo::Instruction&)>;

// The message for the module whose first instruction of this opcode was changed.
std::string refused(const std::string& opcode, const Change& change,
                    HloDialect dialect = HloDialect::xla) {
  hlo::Module module = parse_module(emit_hlo(all_kinds(), dialect), "module");
  hlo::Computation& entry = *module.mutable_computations(module.computations_size() - 1);
  for (hlo::Instruction& instruction : *entry.mutable_instructions()) {
    if (instruction.opcode() != opcode) continue;
    change(instruction);
    const std::string message = refusal([&] { import_hlo(to_bytes(module), "a.pb"); });
    EXPECT_THAT(message, HasSubstr("a.pb: "));
    return message;
  }
  ADD_FAILURE() << "no " << opcode;
  return "";
}

TEST(ImportHlo, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_opcode("convolution"); }),
              AllOf(HasSubstr("instruction 'dot."), HasSubstr("opcode 'convolution'")));
  EXPECT_THAT(refused("reduce", [](auto& i) { i.set_called_computation_ids(0, 3); }),
              AllOf(HasSubstr("constant."), HasSubstr("'greater' is not supported")));
  EXPECT_THAT(refused("reduce", [](auto& i) { i.set_called_computation_ids(0, 99); }),
              HasSubstr("no computation 99"));
  EXPECT_THAT(refused("reduce", [](auto& i) { i.add_called_computation_ids(1); }),
              HasSubstr("calls 2 computations"));
  EXPECT_THAT(refused("select", [](auto& i) { i.set_operand_ids(0, 1); }),
              HasSubstr("the select that follows"));
  const Change call = [](auto& i) { i.set_custom_call_target("Other"); };
  EXPECT_THAT(refused("custom-call", call, HloDialect::neuron),
              HasSubstr("custom call of 'Other'"));
}

TEST(ImportHlo, RefusesOperandsThatAreNotDefinedBefore) {
  const std::string none = "no value defined before it";
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_operand_ids(0, i.id()); }), HasSubstr(none));
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_operand_ids(0, i.id() + 3); }), HasSubstr(none));
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_operand_ids(0, -1); }), HasSubstr(none));
  EXPECT_THAT(refused("tuple", [](auto& i) { i.set_operand_ids(0, 999); }), HasSubstr(none));
  EXPECT_THAT(refused("dot", [](auto& i) { i.clear_operand_ids(); }), HasSubstr("rule N4"));
  EXPECT_THAT(refused("scatter", [](auto& i) { i.clear_operand_ids(); }), HasSubstr("too few"));
  EXPECT_THAT(refused("sort", [](auto& i) { i.clear_operand_ids(); }), HasSubstr("too few"));
}

TEST(ImportHlo, RefusesIdsAndNamesThatStandTwice) {
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_id(i.operand_ids(0)); }), HasSubstr("used twice"));
  EXPECT_THAT(refused("dot", [](auto& i) { i.set_name("p0"); }),
              AllOf(HasSubstr("instruction 'p0': "), HasSubstr("name")));
}

TEST(ImportHlo, RefusesShapesThatAreNotPlainOrNotRight) {
  EXPECT_THAT(refused("dot", [](auto& i) { i.mutable_shape()->clear_layout(); }),
              HasSubstr("row-major layout"));
  EXPECT_THAT(refused("dot", [](auto& i) { i.mutable_shape()->set_dimensions(0, 1L << 62); }),
              HasSubstr("rule V5"));
  EXPECT_THAT(refused("dot", [](auto& i) { i.mutable_shape()->set_dimensions(0, 5); }),
              HasSubstr("the result is f32[2,4], not f32[5,4]"));
  EXPECT_THAT(refused("dot", [](auto& i) { i.clear_shape(); }), HasSubstr("element type 0"));
  EXPECT_THAT(refused("compare", [](auto& i) { i.mutable_shape()->clear_layout(); }),
              HasSubstr("layout"));
  EXPECT_THAT(refused("sort", [](auto& i) { i.mutable_shape()->clear_tuple_shapes(); }),
              HasSubstr("tuple_shapes"));
  EXPECT_THAT(
      refused("constant", [](auto& i) { i.mutable_literal()->mutable_shape()->clear_layout(); }),
      HasSubstr("layout"));
  EXPECT_THAT(refused("constant", [](auto& i) { i.mutable_literal()->clear_f32s(); }),
              HasSubstr("no literal of one f32"));
  EXPECT_THAT(refused("constant", [](auto& i) { i.mutable_literal()->add_s32s(1); }),
              HasSubstr("s32s"));
  EXPECT_THAT(refused("constant", [](auto& i) { i.mutable_literal()->set_f32s(0, NAN); }),
              HasSubstr("rule N3"));
}

// Each names the instruction and the field.
TEST(ImportHlo, RefusesNumbersThatAreNotOurs) {
  const auto field = [](const std::string& opcode, const std::string& name, const Change& change) {
    EXPECT_THAT(refused(opcode, change),
                AllOf(HasSubstr("not as it is written here: instruction '" + opcode + "."),
                      HasSubstr(name)));
  };
  field("dot", "lhs_contracting_dimensions",
        [](auto& i) { i.mutable_dot_dimension_numbers()->set_lhs_contracting_dimensions(0, 0); });
  field("gather", "index_vector_dim",
        [](auto& i) { i.mutable_gather_dimension_numbers()->set_index_vector_dim(0); });
  field("gather", "gather_slice_sizes", [](auto& i) { i.set_gather_slice_sizes(0, 2); });
  field("scatter", "update_window_dims",
        [](auto& i) { i.mutable_scatter_dimension_numbers()->set_update_window_dims(0, 0); });
  field("scatter", "called_computation_ids", [](auto& i) { i.set_called_computation_ids(0, 1); });
  field("reduce", "dimensions", [](auto& i) { i.set_dimensions(0, 0); });
  field("sort", "is_stable", [](auto& i) { i.set_is_stable(false); });
  field("slice", "stride", [](auto& i) { i.mutable_slice_dimensions(0)->set_stride(2); });
  field("slice", "limit", [](auto& i) { i.mutable_slice_dimensions(0)->set_limit(4); });
  field("compare", "comparison_direction", [](auto& i) { i.set_comparison_direction("GT"); });
  field("broadcast", "backend_config", [](auto& i) { i.set_backend_config("{}"); });
  field("get-tuple-element", "tuple_index", [](auto& i) { i.set_tuple_index(1); });
  EXPECT_THAT(refused("transpose", [](auto& i) { i.set_dimensions(0, 0); }), HasSubstr("rule S3"));
  EXPECT_THAT(refused("iota", [](auto& i) { i.set_dimensions(0, 7); }), HasSubstr("rule L5"));
  EXPECT_THAT(refused("iota", [](auto& i) { i.add_dimensions(7); }), HasSubstr("2 dimensions"));
}

TEST(ImportHlo, RefusesFieldsItDoesNotKnowAndOtherEncodings) {
  const std::string bytes = emit_hlo(all_kinds(), HloDialect::xla);
  EXPECT_THAT(refusal([&] { import_hlo(bytes + std::string("\xa0\x06\x01", 3), "a.pb"); }),
              HasSubstr("not as it is written here"));
  const hlo::Module module = parse_module(bytes, "module");
  hlo::Module only_name;
  only_name.set_name(module.name());  // the last of a field's values counts: the same module
  EXPECT_THAT(refusal([&] { import_hlo(bytes + to_bytes(only_name), "a.pb"); }),
              HasSubstr("the encoding"));
}

TEST(ImportHlo, RefusesTheOtherDialectsPartsMixed) {
  hlo::Module module = parse_module(emit_hlo(all_kinds(), HloDialect::xla), "module");
  module.mutable_input_output_alias()->mutable_entries(0)->clear_kind();
  EXPECT_THAT(refusal([&] { import_hlo(to_bytes(module), "a.pb"); }),
              HasSubstr("not as it is written here"));
}

TEST(ImportHlo, DamagedModulesAreVerifiedGraphsOrUserErrors) {
  for (const HloDialect dialect : {HloDialect::xla, HloDialect::neuron}) {
    for (const Graph& graph : {all_kinds(), RandomLegal(5).graph(12)}) {
      expect_survives(emit_hlo(graph, dialect), 2000, [](auto bytes) {
        verify(import_hlo({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "a.pb"));
      });
    }
  }
}

// Damage inside messages that stays a message: every number of every field, changed.
TEST(ImportHlo, ChangedNumbersAreVerifiedGraphsOrUserErrors) {
  std::mt19937_64 random(7);
  const hlo::Module whole = parse_module(emit_hlo(all_kinds(), HloDialect::xla), "module");
  for (int copy = 0; copy < 2000; ++copy) {
    hlo::Module module = whole;
    hlo::Computation& computation = *module.mutable_computations(
        static_cast<int>(random() % static_cast<uint64_t>(module.computations_size())));
    hlo::Instruction& changed = *computation.mutable_instructions(
        static_cast<int>(random() % static_cast<uint64_t>(computation.instructions_size())));
    const int64_t numbers[] = {-1, 0, 1, 2, 3, 4, 1L << 31, 1L << 40, 1L << 62, INT64_MIN};
    const int64_t number = numbers[random() % 10];
    switch (random() % 8) {
      case 0: changed.set_id(number); break;
      case 1: changed.add_operand_ids(number); break;
      case 2: changed.mutable_shape()->add_dimensions(number); break;
      case 3:
        changed.set_opcode(whole.computations(whole.computations_size() - 1)
                               .instructions(static_cast<int>(random() % 20))
                               .opcode());
        break;
      case 4: changed.add_dimensions(number); break;
      case 5: set_shape(*changed.mutable_shape(), {DType::f32, {number & 0xFFFFFF, 2}}); break;
      case 6:
        if (changed.operand_ids_size() > 0) changed.set_operand_ids(0, number % 40);
        break;
      default: changed.add_called_computation_ids(number); break;
    }
    error_of([&] { verify(import_hlo(to_bytes(module), "a.pb")); });
  }
}

}  // namespace
}  // namespace ng
