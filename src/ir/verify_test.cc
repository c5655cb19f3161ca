#include "ir/verify.h"

#include <cmath>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

const Type kPair{DType::f32, {2}};

void expect_broken(const char* rule, const Graph& graph) {
  const std::string message = refusal([&] { verify(graph); });
  EXPECT_NE(message.find(rule), std::string::npos) << message;
}

TEST(Verify, V1NamesAreDistinctAndWeightsOfOneNameHaveOneType) {
  Graph g("g");
  const Value a = input(g, "a", kPair);
  g.outputs = {{"x", a}, {"y", a}};
  verify(g);
  g.outputs = {{"x", a}, {"x", a}};
  expect_broken("V1", g);
  g.outputs = {{"", a}};
  expect_broken("V1", g);
  g.outputs = {};
  input(g, "a", {DType::s32, {2}});
  expect_broken("V1", g);
  Graph h("h");
  weight(h, "w", kPair);
  verify(h);
  weight(h, "w", {DType::f32, {3}});
  expect_broken("V1", h);
}

TEST(Verify, V2TypesAreInferred) {
  Graph g("g");
  const Value a = input(g, "a", kPair);
  g.add(Node{Op::exp, {a}, {}, {Type{DType::f32, {3}}}});
  expect_broken("V2", g);
}

TEST(Verify, NamesTheNodeThatBreaksARule) {
  Graph g("g");
  const Value a = input(g, "a", {DType::s32, {2}});
  g.add(Node{Op::exp, {a}, {}, {kPair}});
  expect_broken("%1: graph g: exp breaks rule E2", g);
}

TEST(Verify, N3AttributesBelongToTheirOpAndAreNumbers) {
  const auto graph_with = [](Op op, const Attrs& attrs) {
    Graph g("g");
    const Value a = input(g, "a", kPair);
    g.add(Node{op, {a}, attrs, {kPair}});
    return g;
  };
  Attrs attrs;
  verify(graph_with(Op::exp, attrs));
  attrs.heads = 1;
  expect_broken("N3", graph_with(Op::exp, attrs));
  attrs = {};
  attrs.activation = ActivationKind::gelu;
  verify(graph_with(Op::activate, attrs));
  expect_broken("N3", graph_with(Op::sqrt, attrs));
  for (const double number : {std::nan(""), double{INFINITY}, -0.0}) {
    Graph g("g");
    constant(g, {number}, {DType::f32, {}});
    expect_broken("N3", g);
  }
}

// A cache that is written at `index` and read by what `read` adds.
Graph with_state(const std::function<Value(Graph&, Value state, Value written)>& read) {
  Graph g("g");
  const Value state = input(g, "keys", {DType::f32, {4, 2}});
  const Value rows = input(g, "rows", {DType::f32, {1, 2}});
  const Value written = write_rows(g, state, rows, input(g, "index", {DType::s32, {1}}));
  g.outputs = {{"x", read(g, state, written)}, {"keys", written}};
  return g;
}

TEST(Verify, V3AStateIsReadOnlyAfterItIsWritten) {
  verify(with_state(
      [](Graph& g, Value, Value written) { return elementwise(g, Op::exp, {written}); }));
  expect_broken("V3", with_state([](Graph& g, Value state, Value) {
                  return elementwise(g, Op::exp, {state});
                }));
  expect_broken("V3", with_state([](Graph&, Value state, Value) { return state; }));
}

TEST(Verify, V3AStateIsWrittenFromItsOwnInput) {
  Graph g = with_state([](Graph&, Value, Value written) { return written; });
  verify(g);
  g.outputs[1].value = elementwise(g, Op::exp, {g.outputs[0].value});
  expect_broken("V3", g);
  g.outputs[1].value = *g.find_input("keys");
  expect_broken("V3", g);
  Graph other("g");
  const Value a = input(other, "a", {DType::f32, {4, 2}}),
              b = input(other, "b", {DType::f32, {4, 2}});
  const Value index = input(other, "index", {DType::s32, {4}});
  other.outputs = {{"a", write_rows(other, b, a, index)}};
  expect_broken("V3", other);
}

TEST(Verify, V4EveryCountIsCarriedByAnInputOrOutput) {
  Graph g("g");
  const Value ids = iota(g, {DType::s32, {Dim(4, Count::rows)}}, 0);
  g.outputs = {{"ids", ids}};
  verify(g);
  g.outputs = {{"wide", gather_rows(g, input(g, "t", kPair), ids)}};
  verify(g);
  g.outputs = {};
  expect_broken("V4", g);
}

TEST(Verify, V5BoundsNodesAndTypes) {
  for (const Shape& shape :
       {Shape{-1}, Shape{int64_t{1} << 41}, Shape{int64_t{1} << 40, int64_t{1} << 40},
        Shape{0, int64_t{1} << 40, int64_t{1} << 40}}) {
    Graph g("g");
    g.add(Node{Op::input, {}, {"x", {}, {}}, {Type{DType::f32, shape}}});
    expect_broken("V5", g);
  }
  Graph g("g");
  for (int64_t i = 0; i < 100'000; ++i) input(g, std::to_string(i), kPair);
  verify(g);
  input(g, "one more", kPair);
  expect_broken("V5", g);
}

}  // namespace
}  // namespace ng::testing
