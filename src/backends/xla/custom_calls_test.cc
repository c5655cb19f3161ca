// Does a new row of the table make an op a custom call, there and back?
#include "backends/xla/custom_calls.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "backends/xla/emit_hlo.h"
#include "backends/xla/import_hlo.h"
#include "backends/xla/random_legal_for_test.h"
#include "backends/xla/wire.h"
#include "ir/build.h"
#include "ir/test_run.h"

namespace ng {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The table and two more: one of docs/neuron.md, and one whose operands have an order.
std::vector<CustomCall> planted() {
  const auto known = neuron_custom_calls();
  std::vector<CustomCall> calls(known.begin(), known.end());
  calls.push_back({Op::erf, "AwsNeuronErf"});
  calls.push_back({Op::subtract, "PlantedSubtract",
                   [](const Node& node) { return fmt::format("rank {}", node.types[0].rank()); }});
  return calls;
}

TEST(CustomCalls, HaveTheNameOperandsAndConfigOfTheTable) {
  Graph graph("planted");
  const Value x = input(graph, "x", {DType::f32, {2, 8}}),
              y = input(graph, "y", {DType::f32, {2, 8}});
  graph.outputs = {{"difference", elementwise(graph, Op::subtract, {y, x})}};
  const hlo::Module module = parse_module(emit_hlo(graph, HloDialect::neuron, planted()), "module");
  const hlo::Computation& entry = module.computations(module.computations_size() - 1);
  const auto call = std::find_if(entry.instructions().begin(), entry.instructions().end(),
                                 [](const auto& one) { return one.opcode() == "custom-call"; });
  ASSERT_NE(call, entry.instructions().end());
  EXPECT_EQ(call->custom_call_target(), "PlantedSubtract");
  EXPECT_EQ(call->backend_config(), "rank 2");
  EXPECT_THAT(call->operand_ids(),
              ElementsAre(entry.instructions(1).id(), entry.instructions(0).id()));
}

TEST(CustomCalls, ComeBackAsTheirOps) {
  int called = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Graph graph = RandomLegal(seed).graph(24);
    const std::string bytes = emit_hlo(graph, HloDialect::neuron, planted());
    const Graph again = import_hlo(bytes, "module", planted());
    ASSERT_EQ(emit_hlo(again, HloDialect::neuron, planted()), bytes) << "seed " << seed;
    ASSERT_EQ(emit_hlo(again, HloDialect::xla), emit_hlo(graph, HloDialect::xla)) << seed;
    called += bytes.find("AwsNeuronErf") != std::string::npos ? 1 : 0;
    called += bytes.find("PlantedSubtract") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(called, 20);
}

TEST(CustomCalls, AreRefusedWithoutTheirRow) {
  Graph graph("planted");
  graph.outputs = {{"y", elementwise(graph, Op::erf, {input(graph, "x", {DType::f32, {2}})})}};
  const std::string bytes = emit_hlo(graph, HloDialect::neuron, planted());
  EXPECT_THAT(refusal([&] { import_hlo(bytes, "a.pb"); }), HasSubstr("'AwsNeuronErf'"));
}

}  // namespace
}  // namespace ng
