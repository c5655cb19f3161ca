// Is the StableHLO of a graph the text it was designed to be?
#include "backends/xla/emit_stablehlo.h"

#include "backends/xla/random_legal_for_test.h"
#include "ir/test_run.h"

namespace ng {
namespace {

Graph small_graph() {
  Graph graph("decode");
  const Value w = weight(graph, "w", {DType::bf16, {3, 2}});
  const Value state = input(graph, "state", {DType::f32, {4, 3}});
  const Value x = input(graph, "x", {DType::bf16, {2, 2}});
  const Value index = input(graph, "index", {DType::s32, {2}});
  const Value y = elementwise(graph, Op::erf, {dot(graph, x, w)});
  const Value best = top_k(graph, y, 1);
  const Value one = broadcast(graph, constant(graph, {1.5}, {DType::bf16, {}}), {2, 2}, {});
  graph.outputs = {{"scores", best},
                   {"ids", {best.node, 1}},
                   {"state", write_rows(graph, state, y, index)},
                   {"most", reduce(graph, Op::reduce_max, y)},
                   {"one", one}};
  verify(graph);
  return graph;
}

TEST(EmitStablehlo, IsThisTextForASmallGraph) {
  EXPECT_EQ(emit_stablehlo(small_graph()), R"(module @decode {
  func.func public @main(%arg0: tensor<2x2xbf16>, %arg1: tensor<2xi32>, %arg2: tensor<4x3xf32> {tf.aliasing_output = 2 : i32}, %arg3: tensor<3x2xbf16>) -> (tensor<2x1xf32>, tensor<2x1xi32>, tensor<4x3xf32>, tensor<2xf32>, tensor<2x2xbf16>) {
    %0 = "stablehlo.dot_general"(%arg0, %arg3) {dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [], rhs_batching_dimensions = [], lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [1]>} : (tensor<2x2xbf16>, tensor<3x2xbf16>) -> tensor<2x3xf32>
    %1 = "chlo.erf"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %2 = "stablehlo.iota"() {iota_dimension = 1 : i64} : () -> tensor<2x3xi32>
    %3:2 = "stablehlo.sort"(%1, %2) ({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<i32>, %d: tensor<i32>):
      %r = "stablehlo.compare"(%a, %b) {comparison_direction = #stablehlo<comparison_direction GT>} : (tensor<f32>, tensor<f32>) -> tensor<i1>
      "stablehlo.return"(%r) : (tensor<i1>) -> ()
    }) {dimension = 1 : i64, is_stable = true} : (tensor<2x3xf32>, tensor<2x3xi32>) -> (tensor<2x3xf32>, tensor<2x3xi32>)
    %4 = "stablehlo.slice"(%3#0) {start_indices = array<i64: 0, 0>, limit_indices = array<i64: 2, 1>, strides = array<i64: 1, 1>} : (tensor<2x3xf32>) -> tensor<2x1xf32>
    %5 = "stablehlo.slice"(%3#1) {start_indices = array<i64: 0, 0>, limit_indices = array<i64: 2, 1>, strides = array<i64: 1, 1>} : (tensor<2x3xi32>) -> tensor<2x1xi32>
    %6 = "stablehlo.constant"() {value = dense<0x3FC0> : tensor<bf16>} : () -> tensor<bf16>
    %7 = "stablehlo.broadcast_in_dim"(%6) {broadcast_dimensions = array<i64>} : (tensor<bf16>) -> tensor<2x2xbf16>
    %8 = "stablehlo.scatter"(%arg2, %arg1, %1) ({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      "stablehlo.return"(%b) : (tensor<f32>) -> ()
    }) {scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, indices_are_sorted = false, unique_indices = false} : (tensor<4x3xf32>, tensor<2xi32>, tensor<2x3xf32>) -> tensor<4x3xf32>
    %9 = "stablehlo.constant"() {value = dense<0xFF7FFFFF> : tensor<f32>} : () -> tensor<f32>
    %10 = "stablehlo.reduce"(%1, %9) ({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %r = "stablehlo.maximum"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
      "stablehlo.return"(%r) : (tensor<f32>) -> ()
    }) {dimensions = array<i64: 1>} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
    "func.return"(%4, %5, %8, %10, %7) : (tensor<2x1xf32>, tensor<2x1xi32>, tensor<4x3xf32>, tensor<2xf32>, tensor<2x2xbf16>) -> ()
  }
}
)");
}

TEST(EmitStablehlo, QuotesANameThatIsNoIdentifier) {
  const auto first_line = [](const std::string& name) {
    Graph graph(name);
    graph.outputs = {{"y", input(graph, "x", {DType::f32, {}})}};
    const std::string text = emit_stablehlo(graph);
    return text.substr(0, text.find('\n'));
  };
  EXPECT_EQ(first_line("decode_2.x"), "module @decode_2.x {");
  EXPECT_EQ(first_line("2x"), "module @\"2x\" {");
  EXPECT_EQ(first_line("a-b \"\\"), R"(module @"a-b \"\\" {)");
}

TEST(EmitStablehlo, EqualGraphsGiveEqualText) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    ASSERT_EQ(emit_stablehlo(RandomLegal(seed).graph(20)),
              emit_stablehlo(RandomLegal(seed).graph(20)));
  }
}

TEST(EmitStablehlo, RefusesWhatNoLegalGraphHolds) {
  Graph graph("wrong");
  graph.outputs = {{"y", input(graph, "x", {DType::f16, {1}})}};
  EXPECT_THROW(emit_stablehlo(graph), Error);
}

}  // namespace
}  // namespace ng
