#include "ir/decompose.h"

#include <algorithm>
#include <cmath>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

// `graph` with every composite replaced, again and again, until only primitives and leaves are
// left.
Graph decompose_all(const Graph& graph) {
  const auto is_composite = [](const Node& node) { return row(node.op).kind == OpKind::composite; };
  Graph out = graph;
  while (std::any_of(out.nodes().begin(), out.nodes().end(), is_composite)) {
    out = rewrite(out, [&](Graph& to, const Node& node) {
      return is_composite(node) ? decompose(to, node) : std::vector<Value>();
    });
  }
  return out;
}

// The graph's outputs, of the graph itself and of its decomposition.
struct Both {
  std::vector<Tensor> whole, parts;
};
Both both(const std::vector<Type>& types, const Build& build, const std::vector<Tensor>& inputs,
          const Counts& counts = {}) {
  const Graph graph = graph_of(types, build);
  const Graph primitive = decompose_all(graph);
  verify(primitive);
  for (const Node& node : primitive.nodes()) {
    EXPECT_NE(row(node.op).kind, OpKind::composite) << row(node.op).name;
  }
  return {run_graph(graph, inputs, counts), run_graph(primitive, inputs, counts)};
}

void expect_same(const Both& results) {
  for (size_t i = 0; i < results.whole.size(); ++i) {
    EXPECT_TRUE(same_bytes(results.whole[i], results.parts[i])) << "result " << i;
  }
}
void expect_near(const Both& results, double tolerance) {
  for (size_t i = 0; i < results.whole.size(); ++i) {
    ASSERT_EQ(results.whole[i].type, results.parts[i].type);
    const std::vector<float> whole = items<float>(results.whole[i]);
    expect_close(results.parts[i], {whole.begin(), whole.end()}, tolerance);
  }
}

const Dim kRows(64, Count::rows);

TEST(Decompose, EmbedKeepsItsBytes) {
  Random random(31);
  for (int round = 0; round < 24; ++round) {
    const int64_t d = pick(random, 4, 40), rows = pick(random, 0, 9);
    const DType dtype = round % 2 == 0 ? DType::f32 : DType::bf16;
    const int64_t padding = round % 3 == 0 ? -1 : 1;
    const Type ids{DType::s32, {kRows}};
    const Build build = [&](Graph& g, auto& in) {
      const Value matrix = convert(g, in[2], dtype);
      const Value table = round % 4 < 2 ? matrix : pack(g, matrix);
      const Value f = frequencies(g, d / 2);
      return std::vector{embed(g, {in[0], in[1], table, f}, 5.5F, padding)};
    };
    expect_same(both({ids, ids, {DType::f32, {21, d}}}, build,
                     {random_s32(random, {rows}, 0, 20), random_s32(random, {rows}, 0, 4),
                      random_f32(random, {21, d})}));
  }
}

TEST(Decompose, LayerNormIsCloseBecauseSquaresAreRounded) {
  Random random(32);
  for (const int64_t d : {1, 7, 16, 50}) {
    const Type vector{DType::f32, {d}};
    const Build build = [](Graph& g, auto& in) {
      return std::vector{layer_norm(g, in[0], in[1], in[2], 1e-5F)};
    };
    expect_near(
        both({{DType::f32, {kRows, d}}, vector, vector}, build,
             {random_f32(random, {5, d}), random_f32(random, {d}), random_f32(random, {d})}),
        2e-6);
  }
}

TEST(Decompose, ReluKeepsTheSignOfZero) {
  const Build build = [](Graph& g, auto& in) {
    return std::vector{activate(g, in[0], ActivationKind::relu)};
  };
  const Tensor x = f32({4}, {-0.0F, 0.0F, -1.0F, 2.0F});
  const Both results = both({x.type}, build, {x});
  expect_same(results);
  EXPECT_TRUE(same_bytes(results.whole[0], f32({4}, {-0.0F, 0.0F, 0.0F, 2.0F})));
}

TEST(Decompose, LinearAndActivateKeepTheirBytes) {
  Random random(33);
  for (int round = 0; round < 48; ++round) {
    const int64_t k = pick(random, 1, 20), n = pick(random, 1, 40);
    const auto kind = static_cast<ActivationKind>(round % 4);
    const Build build = [&](Graph& g, auto& in) {
      const Value typed = convert(g, in[1], round % 3 == 0 ? DType::bf16 : DType::f32);
      LinearInputs inputs{in[0], round % 2 == 0 ? typed : pack(g, typed), {}, {}};
      if (round % 5 > 0) inputs.bias = in[2];
      if (round % 5 > 2) inputs.residual = in[3];
      return std::vector{linear(g, inputs, n, kind), activate(g, in[0], kind)};
    };
    const std::vector<Type> types = {{DType::f32, {kRows, k}},
                                     {DType::f32, {n, k}},
                                     {DType::f32, {n}},
                                     {DType::f32, {kRows, n}}};
    expect_same(both(types, build,
                     {random_f32(random, {3, k}), random_f32(random, {n, k}),
                      random_f32(random, {n}), random_f32(random, {3, n})}));
  }
}

struct AttendCase {
  int64_t rows, cache, heads, head_dim, context;
  bool run;  // history [rows, 1] starts a run of cache rows
  Count rows_count, cache_count, context_count;
};

Both attend_both(Random& random, const AttendCase& c) {
  const int64_t d = c.heads * c.head_dim;
  const Dim rows(c.rows + (c.rows_count == Count::none ? 0 : 3), c.rows_count);
  const Dim cache(c.cache + (c.cache_count == Count::none ? 0 : 9), c.cache_count);
  const Dim context(c.context + (c.context_count == Count::none ? 0 : 5), c.context_count);
  const Type cached{DType::f32, {cache, d}};
  const std::vector<Type> types = {{DType::f32, {rows, d}},
                                   cached,
                                   cached,
                                   {DType::s32, {rows, c.run ? Dim(1) : context}},
                                   {DType::s32, {rows}}};
  std::vector<Tensor> inputs = {random_f32(random, {c.rows, d}), random_f32(random, {c.cache, d}),
                                random_f32(random, {c.cache, d})};
  if (c.run) {
    inputs.push_back(random_s32(random, {c.rows, 1}, 0, 2));
    inputs.push_back(random_s32(random, {c.rows}, 1, c.cache - 2));
  } else {
    inputs.push_back(random_s32(random, {c.rows, c.context}, 0, c.cache - 1));
    inputs.push_back(random_s32(random, {c.rows}, 1, c.context));
  }
  const Build build = [&](Graph& g, auto& in) {
    return std::vector{attend(g, {in[0], in[1], in[2], in[3], in[4]}, c.heads, 0.7F)};
  };
  return both(types, build, inputs);
}

// With one element a head, a dot is a chain and lanes alike; up to kTurn positions nothing else
// differs, for masked ones add +0 to sums of what is not negative, and 0 · value to chains.
TEST(Decompose, AttendKeepsItsBytesForOneElementAHead) {
  Random random(34);
  for (int round = 0; round < 60; ++round) {
    const bool run = round % 2 == 0;
    expect_same(attend_both(
        random, {pick(random, 1, 5), pick(random, 4, 32), pick(random, 1, 5), 1,
                 pick(random, 2, 32), run, Count::rows, run ? Count::memory : Count::cache,
                 round % 4 < 2 ? Count::context : Count::none}));
  }
}

TEST(Decompose, AttendIsCloseForEveryHeadSize) {
  Random random(35);
  for (int round = 0; round < 60; ++round) {
    const bool counted = round % 3 > 0;
    expect_near(attend_both(random, {pick(random, 1, 5), pick(random, 4, 40), pick(random, 1, 4),
                                     pick(random, 1, 40), pick(random, 2, 50), round % 2 == 0,
                                     counted ? Count::rows : Count::none,
                                     counted ? Count::memory : Count::none, Count::context}),
                3e-6);
  }
}

TEST(Decompose, LogSumExpKeepsItsBytesWithinATileAndIsCloseBeyond) {
  Random random(36);
  const Build build = [](Graph& g, auto& in) { return std::vector{log_sum_exp(g, in[0])}; };
  for (const int64_t n : {1, 17, 1024, 1025, 5000}) {
    const Both results =
        both({{DType::f32, {kRows, n}}}, build, {random_f32(random, {3, n}, 9.0F)});
    n <= 1024 ? expect_same(results) : expect_near(results, 1e-6);
  }
}

TEST(Decompose, ProjectTopKKeepsIdsAndScores) {
  Random random(37);
  const Dim k(6, Count::candidates);
  Counts counts;
  counts.at[static_cast<size_t>(Count::candidates)] = 4;
  for (const int64_t vocabulary : {8, 1000}) {
    const Build build = [&](Graph& g, auto& in) {
      const Value table = vocabulary == 8 ? in[1] : pack(g, in[1]);
      const Value best = project_top_k(g, in[0], table, vocabulary, k);
      return std::vector{best, Value{best.node, 1}, Value{best.node, 2}};
    };
    expect_same(both({{DType::f32, {kRows, 10}}, {DType::f32, {vocabulary, 10}}}, build,
                     {random_f32(random, {3, 10}), random_f32(random, {vocabulary, 10})}, counts));
  }
}

TEST(Decompose, LeavesAGraphOfPrimitivesAsItIs) {
  const Graph graph = graph_of({{DType::f32, {2, 3}}}, [](Graph& g, auto& in) {
    return std::vector{elementwise(g, Op::add, {in[0], in[0]})};
  });
  EXPECT_EQ(print(decompose_all(graph)), print(graph));
}

}  // namespace
}  // namespace ng::testing
