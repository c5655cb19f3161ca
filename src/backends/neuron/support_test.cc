#include "backends/neuron/support.h"

#include "backends/xla/emit_hlo.h"
#include "backends/xla/legal.h"
#include "backends/xla/random_legal_for_test.h"
#include "emulated/neuron_rules.h"
#include "ir/arithmetic.h"
#include "ir/test_run.h"

namespace ng {
namespace {

using testing::graph_of;
using ::testing::HasSubstr;

const Type kIds{DType::s32, {3}};

Type matrix(int64_t rows, int64_t columns) { return {DType::f32, {rows, columns}}; }

// All objections of a graph's nodes, one a line.
std::string objections(const Graph& graph, std::string_view target = "inf2") {
  std::string all;
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const std::string found = objection(target, graph, at);
    if (!found.empty()) all += std::string(row(graph.nodes()[at].op).name) + ": " + found + "\n";
  }
  return all;
}

Value clamped(Graph& g, Value index, double most) {
  const Arithmetic a{g};
  return a.op(Op::minimum, a.op(Op::maximum, index, 0.0), most);
}

Graph gather(double most) {
  return graph_of({matrix(5, 4), kIds}, [&](Graph& g, const std::vector<Value>& in) {
    return std::vector<Value>{gather_rows(g, in[0], clamped(g, in[1], most))};
  });
}

Graph best(int64_t columns, int64_t k) {
  return graph_of({matrix(2, columns)}, [&](Graph& g, const std::vector<Value>& in) {
    return std::vector<Value>{top_k(g, in[0], k)};
  });
}

TEST(NeuronSupport, HasARowForEveryOpWithItsReason) {
  ASSERT_EQ(support_table().size(), op_table().size());
  for (const OpRow& op : op_table()) {
    const SupportRow& row = support(op.op);
    EXPECT_EQ(row.op, op.op) << op.name;
    EXPECT_FALSE(row.reason.empty()) << op.name;
    EXPECT_EQ(row.level == Support::decomposed, op.kind == OpKind::composite) << op.name;
    EXPECT_EQ(row.level == Support::restricted, row.restriction != nullptr) << op.name;
    const bool on_device = row.level == Support::supported || row.level == Support::restricted;
    EXPECT_TRUE(!on_device || !row.instructions.empty()) << op.name;
  }
}

TEST(NeuronSupport, TakesRowsOnlyAtIndicesThatAreInRange) {
  EXPECT_EQ(objections(gather(4)), "");
  EXPECT_THAT(objections(gather(5)), HasSubstr("gather_rows: its indices are not clamped into "
                                               "[0, 4]: one outside ends the execution "
                                               "(NRT_EXEC_OOB, #1335)"));
  const Graph loose = graph_of({matrix(5, 4), kIds}, [](Graph& g, const std::vector<Value>& in) {
    return std::vector<Value>{gather_rows(g, in[0], in[1])};
  });
  EXPECT_THAT(objections(loose), HasSubstr("not clamped"));
  const Graph deep =
      graph_of({{DType::f32, {5, 2, 2}}, kIds}, [](Graph& g, const std::vector<Value>& in) {
        return std::vector<Value>{gather_rows(g, in[0], clamped(g, in[1], 4))};
      });
  EXPECT_THAT(objections(deep), HasSubstr("its table has 3 axes"));
}

TEST(NeuronSupport, WritesRowsOnlyAtIndicesThatAreInRange) {
  const auto write = [](double least) {
    return graph_of({matrix(5, 4), matrix(3, 4), kIds},
                    [&](Graph& g, const std::vector<Value>& in) {
                      const Arithmetic a{g};
                      const Value index = a.op(Op::minimum, a.op(Op::maximum, in[2], least), 4.0);
                      return std::vector<Value>{write_rows(g, in[0], in[1], index)};
                    });
  };
  EXPECT_EQ(objections(write(0)), "");
  EXPECT_THAT(objections(write(-1)), HasSubstr("write_rows: its indices are not clamped"));
}

TEST(NeuronSupport, RanksRowsOfEightsUpToAWidth) {
  EXPECT_EQ(objections(best(16384, 3)), "");
  EXPECT_THAT(objections(best(16392, 3)), HasSubstr("16392 columns: 16384 are known to work"));
  EXPECT_THAT(objections(best(12, 3)), HasSubstr("12 columns are not a multiple of 8"));
}

TEST(NeuronSupport, LeavesErfAndQuotientsOfIntegersToTheCpu) {
  const Graph graph = graph_of({matrix(2, 3), kIds}, [](Graph& g, const std::vector<Value>& in) {
    return std::vector<Value>{elementwise(g, Op::erf, {in[0]}),
                              elementwise(g, Op::divide, {in[1], in[1]}),
                              elementwise(g, Op::divide, {in[0], in[0]})};
  });
  EXPECT_EQ(objections(graph),
            "erf: there is no opcode erf; the custom call AwsNeuronErf (SDK error-codes/EVRF015) "
            "is not emitted\n"
            "divide: quotients of integers were off by one before neuronx-cc 2.25 (SDK 2.30)\n");
  EXPECT_EQ(objections(graph, "pjrt"), "");
}

TEST(NeuronSupport, KnowsItsTargets) {
  for (const char* target : {"inf2", "trn1", "trn2"}) EXPECT_EQ(objections(gather(4), target), "");
  EXPECT_THAT(refusal([] { objections(gather(4), "inf1"); }), HasSubstr("--target inf2"));
}

// What the checker of emitted modules finds, the table said of the graph before.
TEST(NeuronSupport, ObjectsToWhateverTheRulesOfModulesRefuse) {
  int refused = 0, taken = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Graph graph = canonical(RandomLegal(seed).graph(static_cast<int>(seed % 12)));
    const bool violated = !neuron_violations(emit_hlo(graph, HloDialect::neuron)).empty();
    const std::string found = objections(graph);
    EXPECT_TRUE(!violated || !found.empty()) << seed;
    ++(found.empty() ? taken : refused);
  }
  EXPECT_GT(refused, 30);
  EXPECT_GT(taken, 30);
}

}  // namespace
}  // namespace ng
