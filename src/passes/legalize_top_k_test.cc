// Are the best of a vocabulary found where rows may not be wide?
#include "ir/test_run.h"
#include "passes/passes.h"

namespace ng {
namespace {

// The largest vocabulary with as many candidates as 64 beams take: the best of its parts are wider
// than a row, too.
TEST(LegalizeTopK, WhereTheBestOfPartsAreManyTheyAreCutAgain) {
  constexpr int64_t kColumns = 4'000'000;
  Graph graph("decode");
  const Value best = top_k(graph, input(graph, "x", {DType::f32, {1, kColumns}}), 81);
  graph.outputs = {{"scores", best}, {"ids", {best.node, 1}}};
  const Graph narrow = legalize(graph, StaticShape{1, 1, 8, DType::f32, false});
  int stages = 0;
  for (const Node& node : narrow.nodes()) {
    if (node.op != Op::top_k) continue;
    EXPECT_LE(narrow.type(node.inputs[0]).size(1), kTopKWidth);
    ++stages;
  }
  EXPECT_EQ(stages, 3);
  std::vector<float> scores(kColumns);  // 1,000 different ones: most of the best are equal
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i * 7919 % 1000);
  scores[3'999'999] = 2000;
  Bindings bindings;
  bindings.inputs["x"] = testing::f32({1, kColumns}, scores);
  const auto expected = interpret(graph, bindings), found = interpret(narrow, bindings);
  for (const char* name : {"scores", "ids"}) {
    EXPECT_TRUE(testing::same_bytes(found.at(name), expected.at(name))) << name;
  }
}

}  // namespace
}  // namespace ng
