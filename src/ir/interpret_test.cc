#include "ir/test_run.h"

namespace ng::testing {
namespace {

const Dim kRows(8, Count::rows);
const Type kLine{DType::f32, {kRows, 2}};

TEST(Interpret, TakesCountsFromItsInputs) {
  const Graph graph = graph_of({kLine, kLine}, [](Graph& g, auto& in) {
    return std::vector{elementwise(g, Op::add, {in[0], in[1]})};
  });
  const Tensor x = f32({3, 2}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(run_graph(graph, {x, x})[0].type, (Type{DType::f32, {3, 2}}));
  EXPECT_EQ(run_graph(graph, {f32({0, 2}, {}), f32({0, 2}, {})})[0].data.size(), 0U);
  EXPECT_THAT(refusal([&] {
                run_graph(graph, {x, f32({1, 2}, {1, 2})});
              }),
              ::testing::HasSubstr("rows is 1 here and 3 elsewhere"));
  EXPECT_THAT(refusal([&] {
                run_graph(graph, {x, f32({3, 1}, {1, 2, 3})});
              }),
              ::testing::HasSubstr("1: f32[3,1] given for f32[rows<=8,2]"));
  EXPECT_THAT(refusal([&] { run_graph(graph, {x}); }),
              ::testing::HasSubstr("input '1' is missing"));
}

TEST(Interpret, TakesCountsOfOutputsFromItsCaller) {
  const Graph graph = graph_of({kLine}, [](Graph& g, auto& in) {
    return std::vector{top_k(g, in[0], Dim(2, Count::candidates))};
  });
  Counts counts;
  counts.at[static_cast<size_t>(Count::candidates)] = 1;
  EXPECT_EQ(items<float>(run_graph(graph, {f32({2, 2}, {1, 2, 4, 3})}, counts)[0]),
            (std::vector<float>{2, 4}));
}

TEST(Interpret, RefusesAWeightOfAnotherType) {
  Graph graph("g");
  graph.outputs = {{"x", weight(graph, "w", {DType::f32, {2}})}};
  Bindings bindings;
  bindings.weight = [](const std::string&) { return f32({3}, {1, 2, 3}); };
  EXPECT_THAT(refusal([&] { interpret(graph, bindings); }),
              ::testing::HasSubstr("weight 'w' is f32[3], the graph needs f32[2]"));
  bindings.weight = [](const std::string&) { return f32({2}, {1, 2}); };
  EXPECT_EQ(items<float>(interpret(graph, bindings).at("x")), (std::vector<float>{1, 2}));
}

TEST(Interpret, DropsATensorAfterItsLastUse) {
  Graph graph("g");
  const Value x = input(graph, "x", {DType::f32, {2}});
  const Value sum = elementwise(graph, Op::add, {x, x});
  const Value late = weight(graph, "late", {DType::f32, {2}});
  graph.outputs = {{"y", elementwise(graph, Op::add, {sum, late})}};
  auto bytes = std::make_shared<std::vector<std::byte>>(8);
  std::weak_ptr<std::vector<std::byte>> alive = bytes;
  Bindings bindings;
  bindings.inputs["x"] = Tensor{{DType::f32, {2}}, bytes, *bytes};
  bytes.reset();
  bool was_dropped = false;
  bindings.weight = [&](const std::string&) {
    was_dropped = alive.expired();
    return f32({2}, {1, 2});
  };
  interpret(graph, std::move(bindings));
  EXPECT_TRUE(was_dropped);
}

TEST(Interpret, ComputesNothingThatNoOutputNeeds) {
  Graph graph("g");
  weight(graph, "unused", {DType::f32, {2}});
  graph.outputs = {{"y", constant(graph, {1}, {DType::f32, {}})}};
  EXPECT_EQ(items<float>(interpret(graph, {}).at("y"))[0], 1.0F);  // asks for no weight
}

// y = x · 1 + w, summed over ranks, and what each has.
TEST(Interpret, WalksAllRanksOfAGraphTogether) {
  Graph graph("g");
  const Type pair{DType::f32, {2}};
  const Value own =
      elementwise(graph, Op::add, {input(graph, "x", pair), weight(graph, "w", pair)});
  const Value sum = all_reduce(graph, own, 3);
  graph.outputs = {{"own", own}, {"sum", sum}};
  EXPECT_EQ(ranks_of(graph), 3);
  Bindings bindings;
  std::vector<std::string> asked;
  bindings.weight = [&](const std::string& name) {
    asked.push_back(name);
    return f32({2}, {0, 10.0F * static_cast<float>(asked.size())});
  };
  bindings.inputs["x"] = f32({2}, {1, 2});
  auto found = interpret(graph, bindings);
  EXPECT_EQ(asked, (std::vector<std::string>{"w.r0", "w.r1", "w.r2"}));
  EXPECT_EQ(found.at("own").type, (Type{DType::f32, {6}}));
  EXPECT_EQ(items<float>(found.at("own")), (std::vector<float>{1, 12, 1, 22, 1, 32}));
  EXPECT_EQ(items<float>(found.at("sum")), (std::vector<float>{3, 66, 3, 66, 3, 66}));
  asked.clear();
  bindings.inputs["x"] = f32({6}, {1, 2, 3, 4, 5, 6});  // each rank has its own
  found = interpret(graph, bindings);
  EXPECT_EQ(items<float>(found.at("own")), (std::vector<float>{1, 12, 3, 24, 5, 36}));
  bindings.inputs["x"] = f32({4}, {1, 2, 3, 4});
  EXPECT_THAT(refusal([&] { interpret(graph, bindings); }), ::testing::HasSubstr("x: f32[4]"));
}

// In float32 (1e8 + 1) - 1e8 is 0, and 1e8 - 1e8 + 1 is 1.
TEST(Interpret, AddsRanksInTheirOrder) {
  const Tensor parts[] = {f32({1}, {1e8F}), f32({1}, {1}), f32({1}, {-1e8F})};
  const Tensor others[] = {parts[0], parts[2], parts[1]};
  EXPECT_EQ(items<float>(sum_of_ranks(parts))[0], 0);
  EXPECT_EQ(items<float>(sum_of_ranks(others))[0], 1);
}

TEST(Evaluate, ChecksTheRulesAgainOnExactTypes) {
  Graph graph("g");
  const Value x = input(graph, "x", kLine);
  const Value sum = elementwise(graph, Op::add, {x, x});
  const Tensor two = f32({2, 2}, {1, 2, 3, 4}), one = f32({1, 2}, {1, 2});
  Counts counts;
  counts.at[static_cast<size_t>(Count::rows)] = 2;
  const Tensor right[] = {two, two}, wrong[] = {two, one};
  EXPECT_EQ(items<float>(evaluate(graph[sum], right, counts)[0]), (std::vector<float>{2, 4, 6, 8}));
  EXPECT_THAT(refusal([&] { evaluate(graph[sum], wrong, counts); }),
              ::testing::HasSubstr("rule E1"));
  counts.at[static_cast<size_t>(Count::rows)] = 3;
  refusal([&] { evaluate(graph[sum], right, counts); });
}

TEST(Evaluate, GivesLeavesFromOutsideNoMeaning) {
  Graph graph("g");
  const Value x = input(graph, "x", {DType::f32, {2}});
  EXPECT_THROW(evaluate(graph[x], {}, {}), Error);
}

}  // namespace
}  // namespace ng::testing
