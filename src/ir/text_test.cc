#include "ir/text.h"

#include <limits>

#include "ir/test_run.h"

namespace ng::testing {
namespace {

// A graph with every op, every attribute and counted types.
Graph everything() {
  Graph g("every-op_1.0");
  const Dim rows(8, Count::rows), context(5, Count::context);
  const Value x = input(g, "x \"quoted\\\" \x01 ü", {DType::f32, {rows, 6}});
  const Value ids = input(g, "ids", {DType::s32, {rows}});
  const Value list = input(g, "list", {DType::s32, {rows, context}});
  const Value table = weight(g, "table", {DType::f32, {20, 6}});
  const Value bias = weight(g, "bias", {DType::f32, {20}}),
              six = weight(g, "six", {DType::f32, {6}});
  const auto out = [&](Value value) {
    g.outputs.push_back({fmt::format("o{}", g.outputs.size()), value});
    return value;
  };
  for (const Op op : {Op::exp, Op::log, Op::sqrt, Op::erf, Op::sin, Op::cos}) {
    out(elementwise(g, op, {x}));
  }
  for (const Op op : {Op::add, Op::subtract, Op::multiply, Op::divide, Op::maximum, Op::minimum}) {
    out(elementwise(g, op, {x, out(elementwise(g, Op::exp, {x}))}));
  }
  const Value packed = pack(g, convert(g, table, DType::bf16));
  out(convert(g, unpack(g, packed, 20), DType::f64));
  out(select_less(g, ids, iota(g, {DType::s32, {rows}}, 0), ids, ids));
  out(broadcast(g, constant(g, {1e-45, 0.1, 3.4e38, -1, 2, 1.0 / 3}, {DType::f64, {6}}), {rows, 6},
                {1}));
  out(transpose(g, reshape(g, x, {rows, 2, 3}), {0, 2, 1}));
  out(slice(g, concatenate(g, {x, x}, 1), 1, 3, 6));
  out(reduce(g, Op::reduce_sum, out(reduce(g, Op::reduce_max, dot(g, x, table)))));
  out(all_reduce(g, x, 4));
  out(write_rows(g, input(g, "state", {DType::f32, {9, 6}}), x, ids));
  out(gather_rows(g, table, list));
  out(embed(g, {ids, ids, table, frequencies(g, 3)}, 0.1F, 1));
  const Value norm = layer_norm(g, x, six, six, 1e-5F);
  out(attend(g, {norm, x, x, list, ids}, 3, 0.57735026F));
  const Value wide = linear(g, {x, packed, bias, {}}, 20, ActivationKind::gelu);
  const Value best = top_k(g, linear(g, {x, table, bias, wide}, 20, ActivationKind::silu), 3);
  out({best.node, 1});
  out(log_sum_exp(g, activate(g, x, ActivationKind::relu)));
  const Value project = project_top_k(g, x, packed, 20, Dim(4, Count::candidates));
  for (uint8_t i = 0; i < 3; ++i) out({project.node, i});
  return g;
}

void expect_equal(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.outputs, b.outputs);
  ASSERT_EQ(a.nodes().size(), b.nodes().size());
  for (size_t i = 0; i < a.nodes().size(); ++i) EXPECT_EQ(a.nodes()[i], b.nodes()[i]) << i;
}

TEST(Text, RoundTripsEveryOpExactly) {
  const Graph graph = everything();
  verify(graph);
  std::set<Op> ops;
  for (const Node& node : graph.nodes()) ops.insert(node.op);
  EXPECT_EQ(ops.size(), op_table().size());
  const std::string text = print(graph);
  const Graph read = parse_graph(text, "text");
  expect_equal(read, graph);
  EXPECT_EQ(print(read), text);
}

TEST(Text, ReadsWhatTheHeaderShows) {
  const std::string text =
      "graph decode\n"
      "%0 = input() name=\"tokens\" : s32[rows<=4096]\n"
      "%1 = weight() name=\"w\" : f32[8,4]\n"
      "%2 = gather_rows(%1, %0) : f32[rows<=4096,4]\n"
      "%3 = linear(%2, %1) activation=relu : f32[rows<=4096,8]\n"
      "%4 = project_top_k(%2, %1) dims=[8] : f32[rows<=4096,candidates<=6], "
      "s32[rows<=4096,candidates<=6], f32[rows<=4096]\n"
      "output \"scores\" = %4\n"
      "output \"ids\" = %4.1\n"
      "output \"hidden\" = %3\n";
  EXPECT_EQ(print(parse_graph(text, "text")), text);
}

TEST(Text, FloatsReadBackToTheSameBits) {
  Random random(41);
  for (int round = 0; round < 2000; ++round) {
    const auto bits = static_cast<uint32_t>(random());
    const float scale = std::bit_cast<float>(bits & 0xFF7FFFFFU);  // finite
    const double wide = std::bit_cast<double>((uint64_t{random()} << 32 | bits) & ~(1ULL << 62));
    if (scale == 0 || wide == 0) continue;
    Graph g("g");
    const Value x = input(g, "x", {DType::f32, {2, 2}}), ids = input(g, "i", {DType::s32, {2}});
    attend(g, {x, x, x, input(g, "h", {DType::s32, {2, 1}}), ids}, 1, scale);
    constant(g, {wide}, {DType::f64, {}});
    expect_equal(parse_graph(print(g), "text"), g);
  }
}

TEST(Text, ErrorsNameTheLineAndTheColumn) {
  const std::string head = "graph g\n%0 = input() name=\"x\" : f32[2]\n";
  const std::pair<std::string, const char*> cases[] = {
      {"", "f:0:1: expected graph"},
      {"graf g\n", "f:1:1: expected graph"},
      {"graph g h\n", "f:1:8: expected the end of the line, found ' h'"},
      {head + "%2 = exp(%0) : f32[2]\n", "f:3:3: %2 where %1 is next"},
      {head + "%1 = exq(%0) : f32[2]\n", "f:3:9: 'exq' is no op"},
      {head + "%1 = exp(%1) : f32[2]\n", "f:3:12: %1 does not exist yet"},
      {head + "%1 = exp(%0.1) : f32[2]\n", "f:3:14: %0.1 does not exist yet"},
      {head + "%1 = exp(%99999999999) : f32[2]\n", "f:3:11: expected a number"},
      {head + "%1 = exp(%0) : f33[2]\n", "f:3:19: 'f33' is no dtype"},
      {head + "%1 = exp(%0) : f32[1,1,1,1,1]\n", "f:3:29: expected at most 4 axes"},
      {head + "%1 = exp(%0) : f32[lines<=2]\n", "f:3:25: 'lines' is no count"},
      {head + "%1 = exp(%0) : f32[2\n", "f:3:21: expected ,"},
      {head + "%1 = exp(%0) colour=1 : f32[2]\n", "f:3:21: 'colour' is no attribute"},
      {head + "%1 = exp(%0) axis=1 axis=1 : f32[2]\n", "f:3:25: 'axis' stands twice"},
      {head + "%1 = activate(%0) activation=tanh : f32[2]\n", "f:3:34: 'tanh' is no activation"},
      {head + "%1 = input() name=\"y : f32[2]\n", "f:3:30: expected a closing quote"},
      {head + "%1 = input() name=\"\\u0041\" : f32[2]\n", "f:3:24: expected a control"},
      {head + "%1 = input() name=\"x\" : f32[2]\n", "f:3:31: %1 repeats an earlier node"},
      {head + "%1 = exp(%0) : f32[2] \n", "f:3:22: expected the end of the line"},
      {head + "output x = %0\n", "f:3:8: expected \""},
      {head + "output \"x\" = %0\nnonsense\n", "f:4:1: expected output"},
      {head + "%1 = exp(%0) : f32[3]\n", "f: %1: exp breaks rule V2"},
      {head + "%1 = exp(%0) heads=3 : f32[2]\n", "f: %1: exp breaks rule N3"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(refusal([&, t = text] { parse_graph(t, "f"); }), ::testing::StartsWith(expected));
  }
}

TEST(Text, BoundsLinesAndNames) {
  const auto named = [](size_t size) {
    return "graph g\n%0 = input() name=\"" + std::string(size, 'x') + "\" : f32[2]\n";
  };
  parse_graph(named(256), "f");
  EXPECT_THAT(refusal([&] { parse_graph(named(257), "f"); }), ::testing::HasSubstr("256 bytes"));
  const std::string line(size_t{64} << 10, 'x');
  EXPECT_THAT(refusal([&] { parse_graph("graph g\n" + line, "f"); }),
              ::testing::HasSubstr("expected output"));
  EXPECT_THAT(refusal([&] { parse_graph("graph g\n" + line + "x", "f"); }),
              ::testing::HasSubstr("a line of 65537 bytes"));
}

TEST(Text, QuotesGraphNamesThatAreNotWords) {
  for (const char* name : {"", "decode", "two words", "a\nb"}) {
    const Graph graph{name};
    EXPECT_EQ(parse_graph(print(graph), "text").name, name);
  }
}

// Damaged text gives a graph or a User error, nothing else.
TEST(Text, SurvivesMutations) {
  const std::string text = print(everything());
  const std::string alphabet = "%0123456789.,()[]=\"\\ <>:-+eE\n\tabcfsu_";
  Random random(42);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = text;
    for (int64_t i = pick(random, 1, 3); i > 0; --i) {
      const auto at =
          static_cast<size_t>(pick(random, 0, static_cast<int64_t>(damaged.size()) - 1));
      const char c =
          round % 3 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
      switch (random() % 4) {
        case 0: damaged.insert(at, 1, c); break;
        case 1: damaged.erase(at, 1 + random() % 40); break;
        default: damaged[at] = c;
      }
    }
    if (round % 50 == 0) damaged.resize(random() % damaged.size());
    try {
      const Graph graph = parse_graph(damaged, "text");
      EXPECT_EQ(print(parse_graph(print(graph), "text")), print(graph));
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), Error::Kind::User) << error.what();
    }
  }
  EXPECT_GT(accepted, 10);
  EXPECT_LT(accepted, 3000);
}

}  // namespace
}  // namespace ng::testing
