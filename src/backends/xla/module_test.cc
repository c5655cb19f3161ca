// Is a module's interface read as it was written, and is one that does not add up refused?
#include "backends/xla/module.h"

#include "backends/xla/emit_hlo.h"
#include "backends/xla/wire.h"
#include "base/refusal_for_test.h"
#include "checkpoint/damage_for_test.h"
#include "ir/test_run.h"

namespace ng {
namespace {

using ::testing::HasSubstr;

// Leaves out of parameter order, states out of output order.
Graph small_graph() {
  Graph graph("decode");
  const Type cache{DType::f32, {4, 2}};
  const Value w = weight(graph, "model.w", {DType::bf16, {2, 2}});
  const Value first = input(graph, "first", cache);
  const Value index = input(graph, "index", {DType::s32, {3}});
  const Value second = input(graph, "second", cache);
  const Value x = input(graph, "x", {DType::bf16, {3, 2}});
  const Value y = dot(graph, x, w);
  graph.outputs = {{"second", write_rows(graph, second, y, index)},
                   {"y", y},
                   {"first", write_rows(graph, first, y, index)}};
  verify(graph);
  return graph;
}

std::vector<std::string> printed(const std::vector<Port>& ports) {
  std::vector<std::string> out;
  for (const Port& port : ports) out.push_back(port.name + " " + to_string(port.type));
  return out;
}

TEST(ModuleInterface, HasRolesNamesTypesAndAliasesInParameterOrder) {
  using Strings = std::vector<std::string>;
  for (const HloDialect dialect : {HloDialect::xla, HloDialect::neuron}) {
    const ModuleInterface found = read_interface(emit_hlo(small_graph(), dialect), "module");
    EXPECT_EQ(printed(found.inputs), (Strings{"index s32[3]", "x bf16[3,2]"}));
    EXPECT_EQ(printed(found.states), (Strings{"first f32[4,2]", "second f32[4,2]"}));
    EXPECT_EQ(printed(found.weights), (Strings{"model.w bf16[2,2]"}));
    EXPECT_EQ(printed(found.outputs), (Strings{"second f32[4,2]", "y f32[3,2]", "first f32[4,2]"}));
    EXPECT_EQ(found.aliases, (std::vector<ModuleInterface::Alias>{{0, 3}, {2, 2}}));
  }
}

// A cache that the next run reads from another buffer, of `width` numbers a row.
std::string replacing(int64_t width) {
  Graph graph("decode");
  const Value cache = input(graph, "keys.0", {DType::f32, {4, 2}});
  const Value parent = input(graph, "parent", {DType::s32, {4}});
  const Value ordered = gather_rows(graph, cache, parent);
  graph.outputs = {{"y", cache}, {"keys.0.next", slice(graph, ordered, 1, 0, width)}};
  return emit_hlo(graph, HloDialect::neuron);
}

TEST(ModuleInterface, StatesThatARunReplacesAreTheDevicesAndHaveNoAlias) {
  const ModuleInterface found = read_interface(replacing(2), "module");
  EXPECT_TRUE(found.states.empty());
  EXPECT_TRUE(found.aliases.empty());
  EXPECT_EQ(found.replaced, (std::vector<ModuleInterface::Alias>{{1, 0}}));
  EXPECT_EQ(printed(caller_ports(found, {true, false}).inputs),
            std::vector<std::string>{"parent s32[4]"});
  EXPECT_EQ(printed(caller_ports(found, {true, false}).outputs),
            std::vector<std::string>{"y f32[4,2]"});
  EXPECT_THAT(refusal([] { read_interface(replacing(1), "module"); }),
              HasSubstr("state 'keys.0' of f32[4,2] becomes f32[4,1]"));
}

TEST(ModuleInterface, NamesStandInTheModuleAsARuntimeBindsThem) {
  const hlo::Module module = parse_module(emit_hlo(small_graph(), HloDialect::neuron), "module");
  const hlo::Computation& entry = module.computations(module.computations_size() - 1);
  const std::vector<std::string> expected = {"index", "x", "first.must_alias_input",
                                             "second.must_alias_input", "weight.model.w"};
  ASSERT_EQ(entry.program_shape().parameter_names_size(), 5);
  for (int i = 0; i < 5; ++i) {
    const hlo::Instruction& parameter = entry.instructions(i);
    EXPECT_EQ(parameter.name(), fmt::format("p{}", i));
    EXPECT_EQ(entry.program_shape().parameter_names(i), expected[static_cast<size_t>(i)]);
    EXPECT_EQ(parameter.frontend_attributes().map(0).value(), expected[static_cast<size_t>(i)]);
  }
  const hlo::Instruction& root = entry.instructions(entry.instructions_size() - 1);
  EXPECT_EQ(root.frontend_attributes().map(0).key(), "neff_output_names");
  EXPECT_EQ(root.frontend_attributes().map(0).value(), "second,y,first");
}

std::string refusal_after(const std::function<void(hlo::Module&, hlo::Computation&)>& change) {
  hlo::Module module = parse_module(emit_hlo(small_graph(), HloDialect::xla), "module");
  hlo::Computation& entry = *module.mutable_computations(module.computations_size() - 1);
  change(module, entry);
  *module.mutable_host_program_shape() = entry.program_shape();
  return refusal([&] { read_interface(to_bytes(module), "a.pb"); });
}

TEST(ModuleInterface, RefusesWhatDoesNotAddUp) {
  EXPECT_THAT(refusal([] { read_interface("no module", "a.pb"); }), HasSubstr("a.pb: "));
  EXPECT_THAT(refusal([] { read_interface("", "a.pb"); }), HasSubstr("no computations"));
  EXPECT_THAT(refusal_after([](auto& m, auto&) { m.set_entry_computation_id(1); }),
              HasSubstr("not the last computation"));
  EXPECT_THAT(
      refusal_after([](auto&, auto& e) { e.mutable_program_shape()->add_parameter_names("more"); }),
      HasSubstr("5 parameters have 6 names"));
  EXPECT_THAT(refusal_after([](auto&, auto& e) {
                e.mutable_program_shape()->set_parameter_names(0, "other");
              }),
              HasSubstr("two names: 'other'"));
  EXPECT_THAT(
      refusal_after([](auto&, auto& e) { e.mutable_instructions(1)->set_parameter_number(0); }),
      HasSubstr("'p1' is not parameter 1"));
  EXPECT_THAT(refusal_after([](auto&, auto& e) {
                e.mutable_instructions(0)->mutable_shape()->set_dimensions(0, 4);
              }),
              HasSubstr("'index' has two shapes"));
  EXPECT_THAT(refusal_after([](auto&, auto& e) { e.set_root_id(1); }), HasSubstr("its root"));
  EXPECT_THAT(refusal_after([](auto&, auto& e) {
                e.mutable_instructions(e.instructions_size() - 2)->set_opcode("parameter");
              }),
              HasSubstr("one parameter more"));
}

TEST(ModuleInterface, RefusesOutputsAndShapesThatAreNotOurs) {
  const auto rename = [](const std::string& names) {
    return refusal_after([&](auto&, auto& e) {
      e.mutable_instructions(e.instructions_size() - 1)
          ->mutable_frontend_attributes()
          ->mutable_map(0)
          ->set_value(names);
    });
  };
  EXPECT_THAT(rename("second,y"), HasSubstr("fewer output names"));
  EXPECT_THAT(rename("second,y,first,more"), HasSubstr("3 outputs for the names"));
  EXPECT_THAT(rename("second,second,first"), HasSubstr("no name of its own"));
  EXPECT_THAT(rename("second,index,first"), HasSubstr("has the name of an input"));
  const auto reshape = [](const std::function<void(hlo::Shape&)>& change) {
    return refusal_after([&](auto&, auto& e) {
      change(*e.mutable_instructions(0)->mutable_shape());
      *e.mutable_program_shape()->mutable_parameters(0) = e.instructions(0).shape();
    });
  };
  EXPECT_THAT(reshape([](hlo::Shape& s) { s.clear_layout(); }), HasSubstr("row-major layout"));
  EXPECT_THAT(reshape([](hlo::Shape& s) { s.set_is_dynamic_dimension(0, true); }),
              HasSubstr("no dynamic sizes"));
  EXPECT_THAT(reshape([](hlo::Shape& s) { s.set_element_type(12); }), HasSubstr("element type 12"));
  EXPECT_THAT(reshape([](hlo::Shape& s) { s.set_dimensions(0, int64_t{1} << 41); }),
              HasSubstr("rule V5"));
  EXPECT_THAT(reshape([](hlo::Shape& s) { s.set_dimensions(0, -1); }), HasSubstr("rule V5"));
}

TEST(ModuleInterface, RefusesAliasesThatAreNotTheStates) {
  const auto alias = [](const std::function<void(hlo::InputOutputAlias&)>& change) {
    return refusal_after([&](auto& m, auto&) { change(*m.mutable_input_output_alias()); });
  };
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->set_parameter_number(1); }),
              HasSubstr("parameter 1, which is no state"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->set_parameter_number(-1); }),
              HasSubstr("no state"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->set_parameter_number(4); }),
              HasSubstr("no state"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->set_parameter_number(2); }),
              HasSubstr("'second' of f32[4,2] is aliased to state 'first'"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->set_output_shape_index(0, 3); }),
              HasSubstr("output 3 of 3"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries()->RemoveLast(); }),
              HasSubstr("1 aliases for 2 states"));
  EXPECT_THAT(alias([](auto& a) { *a.add_entries() = a.entries(0); }),
              HasSubstr("order of outputs"));
  EXPECT_THAT(alias([](auto& a) { a.mutable_entries(0)->add_parameter_shape_index(0); }),
              HasSubstr("whole parameter"));
}

// Two bytes of input would make hundreds in memory.
TEST(ModuleInterface, RefusesMoreMessagesThanAGraphCanHave) {
  std::string many;
  for (size_t i = 0; i <= 16 * kNodeLimit; ++i) many += std::string("\x1a\x00", 2);
  EXPECT_THAT(refusal([&] { read_interface(many, "a.pb"); }), HasSubstr("messages"));
  std::string deep;
  for (int i = 0; i < 40; ++i) {
    std::string next = i == 39 ? "\x22" : "\x22";
    next += static_cast<char>(deep.size());
    deep = next + deep;
  }
  std::string shape = std::string("\x0a") + static_cast<char>(deep.size()) + deep;
  std::string host = std::string("\x22") + static_cast<char>(shape.size()) + shape;
  EXPECT_THAT(refusal([&] { read_interface(host, "a.pb"); }), HasSubstr("nested"));
  const std::string large(kModuleBytes + 1, '\0');
  EXPECT_THAT(refusal([&] { read_interface(large, "a.pb"); }), HasSubstr("above the limit"));
}

TEST(ModuleInterface, SurvivesDamage) {
  expect_survives(emit_hlo(small_graph(), HloDialect::xla), 3000, [](auto bytes) {
    read_interface({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "a.pb");
  });
}

}  // namespace
}  // namespace ng
