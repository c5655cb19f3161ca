#include "ir/graph.h"

#include <test_paths.h>
#include <fstream>
#include <sstream>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

const Type kPair{DType::f32, {2}};

Graph two_inputs(Value& a, Value& b) {
  Graph g("g");
  a = input(g, "a", kPair);
  b = input(g, "b", kPair);
  return g;
}

TEST(Graph, GivesAnEqualNodeOnce) {
  Value a, b;
  Graph g = two_inputs(a, b);
  const Value sum = elementwise(g, Op::add, {a, b});
  EXPECT_EQ(elementwise(g, Op::add, {a, b}), sum);
  EXPECT_NE(elementwise(g, Op::add, {b, a}), sum);
  EXPECT_NE(elementwise(g, Op::subtract, {a, b}), sum);
  EXPECT_NE(constant(g, {1}, {DType::f32, {}}), constant(g, {2}, {DType::f32, {}}));
  EXPECT_NE(constant(g, {1}, {DType::f32, {}}), constant(g, {1}, {DType::s32, {}}));
  EXPECT_EQ(g.nodes().size(), 8U);
}

TEST(Graph, StaysFastWhateverTheNodesDifferIn) {
  Graph g("g");
  const Value x = input(g, "x", {DType::f32, {2, 2}}), ids = input(g, "i", {DType::s32, {2}});
  const Value start = input(g, "h", {DType::s32, {2, 1}});
  for (int i = 0; i < 40'000; ++i) {  // minutes, if they all shared a hash
    constant(g, {i + 0.5}, {DType::f32, {}});
    attend(g, {x, x, x, start, ids}, 1, static_cast<float>(i) + 0.5F);
  }
  EXPECT_EQ(g.nodes().size(), 80'003U);
}

TEST(Graph, RefusesInputsThatDoNotExist) {
  Graph g("g");
  Node node{Op::exp, {Value{0, 0}}, {}, {kPair}};
  EXPECT_THROW(g.add(node), Error);
  node.inputs = {Value{input(g, "a", kPair).node, 1}};
  EXPECT_THROW(g.add(node), Error);
}

TEST(Graph, FindsInputsAndOutputsByName) {
  Value a, b;
  Graph g = two_inputs(a, b);
  g.outputs = {{"x", b}};
  EXPECT_EQ(g.inputs(), (std::vector<Named>{{"a", a}, {"b", b}}));
  EXPECT_EQ(g.find_input("b"), b);
  EXPECT_EQ(g.find_input("x"), std::nullopt);
  EXPECT_EQ(g.find_output("x"), b);
  EXPECT_EQ(g.find_output("a"), std::nullopt);
}

TEST(Rewrite, KeepsOrderAndInputsAndDropsWhatNoOutputNeeds) {
  Value a, b;
  Graph g = two_inputs(a, b);
  elementwise(g, Op::exp, {a});  // dead, and with it nothing else
  const Value sum = elementwise(g, Op::add, {a, a});
  g.outputs = {{"sum", elementwise(g, Op::sqrt, {sum})}};
  const Graph same = rewrite(g, [](Graph&, const Node&) { return std::vector<Value>(); });
  EXPECT_EQ(print(same),
            "graph g\n"
            "%0 = input() name=\"a\" : f32[2]\n"
            "%1 = input() name=\"b\" : f32[2]\n"
            "%2 = add(%0, %0) : f32[2]\n"
            "%3 = sqrt(%2) : f32[2]\n"
            "output \"sum\" = %3\n");
}

TEST(Rewrite, ReplacesANodeForAllItsReaders) {
  Value a, b;
  Graph g = two_inputs(a, b);
  const Value sum = elementwise(g, Op::add, {a, b});
  g.outputs = {{"x", elementwise(g, Op::exp, {sum})}, {"y", sum}};
  const Graph changed = rewrite(g, [](Graph& out, const Node& node) {
    if (node.op != Op::add) return std::vector<Value>();
    return std::vector{elementwise(out, Op::multiply, node.inputs)};
  });
  EXPECT_EQ(print(changed),
            "graph g\n"
            "%0 = input() name=\"a\" : f32[2]\n"
            "%1 = input() name=\"b\" : f32[2]\n"
            "%2 = multiply(%0, %1) : f32[2]\n"
            "%3 = exp(%2) : f32[2]\n"
            "output \"x\" = %3\n"
            "output \"y\" = %2\n");
}

TEST(Rewrite, CarriesEveryResultOfANode) {
  Graph g("g");
  const Value best = top_k(g, input(g, "x", {DType::f32, {3, 9}}), 2);
  g.outputs = {{"ids", {best.node, 1}}, {"scores", best}};
  const Graph same = rewrite(g, [](Graph&, const Node&) { return std::vector<Value>(); });
  EXPECT_EQ(print(same), print(g));
}

// docs/ops.md has a section `### name` for every op of ops.def, and for no other.
TEST(OpsPage, DescribesEveryOp) {
  std::ifstream page(NG_SOURCE_DIR "/docs/ops.md");
  ASSERT_TRUE(page.is_open());
  std::set<std::string> described, ops;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("### ", 0) != 0) continue;
    std::istringstream names(line.substr(4));
    for (std::string name; names >> name;) {
      while (name.back() == ',') name.pop_back();
      described.insert(name);
    }
  }
  for (const OpRow& op : op_table()) ops.insert(std::string(op.name));
  EXPECT_EQ(described, ops);
}

}  // namespace
}  // namespace ng::testing
