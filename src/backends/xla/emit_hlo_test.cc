// Do modules say what their graphs do, in one form, in both dialects?
#include "backends/xla/emit_hlo.h"

#include <set>

#include "backends/xla/import_hlo.h"
#include "backends/xla/random_legal_for_test.h"
#include "backends/xla/wire.h"
#include "ir/test_run.h"

namespace ng {
namespace {

constexpr int kGraphs = 300;

Graph random_graph(uint64_t seed) {
  return RandomLegal(seed).graph(4 + static_cast<int>(seed % 24));
}

// The module without the instructions and aliases in which the dialects differ, renumbered.
std::string common_part(std::string_view bytes) {
  hlo::Module module = parse_module(bytes, "module");
  for (hlo::AliasEntry& entry : *module.mutable_input_output_alias()->mutable_entries()) {
    entry.clear_kind();
  }
  const std::set<std::string> of_top_k = {"iota", "sort", "get-tuple-element", "slice",
                                          "custom-call"};
  std::map<int64_t, int64_t> numbers;  // what stays → a number that both dialects give it
  hlo::Module out = module;
  out.clear_computations();
  for (const hlo::Computation& computation : module.computations()) {
    if (computation.name() == "greater") continue;
    hlo::Computation& kept = *out.add_computations();
    kept.set_name(computation.name());
    *kept.mutable_program_shape() = computation.program_shape();
    for (const hlo::Instruction& instruction : computation.instructions()) {
      if (of_top_k.contains(instruction.opcode())) continue;
      const auto number = static_cast<int64_t>(numbers.size() + 1);
      numbers[instruction.id()] = number;
      hlo::Instruction& copy = *kept.add_instructions();
      copy = instruction;
      copy.set_id(number);
      if (!instruction.name().starts_with("p")) copy.set_name(instruction.opcode());
      if (instruction.opcode() == "parameter") copy.clear_name();
      for (int64_t& operand : *copy.mutable_operand_ids()) operand = numbers[operand];
      copy.clear_called_computation_ids();
    }
  }
  out.clear_entry_computation_id();
  return to_bytes(out);
}

TEST(EmitHlo, WhatIsImportedIsEmittedAsTheSameBytesInBothDialects) {
  for (uint64_t seed = 0; seed < kGraphs; ++seed) {
    const Graph graph = random_graph(seed);
    for (const Dialect dialect : {Dialect::xla, Dialect::neuron}) {
      const std::string bytes = emit_hlo(graph, dialect);
      ASSERT_EQ(emit_hlo(graph, dialect), bytes);
      const Graph again = import_hlo(bytes, "module");
      verify(again);
      ASSERT_EQ(emit_hlo(again, dialect), bytes) << "seed " << seed;
    }
  }
}

TEST(EmitHlo, WhatIsImportedComputesTheSameBytes) {
  for (uint64_t seed = 0; seed < kGraphs; ++seed) {
    const Graph graph = random_graph(seed);
    const std::map<std::string, Tensor> tensors = random_tensors(graph, seed);
    const auto expected = results_of(graph, tensors);
    for (const Dialect dialect : {Dialect::xla, Dialect::neuron}) {
      const Graph again = import_hlo(emit_hlo(graph, dialect), "module");
      const auto found = results_of(again, tensors);
      ASSERT_EQ(found.size(), expected.size());
      for (const auto& [name, tensor] : expected) {
        ASSERT_TRUE(testing::same_bytes(found.at(name), tensor)) << "seed " << seed << ", " << name;
      }
    }
  }
}

TEST(EmitHlo, TheDialectsDifferInTopKAndTheKindOfAliasesOnly) {
  int different = 0;
  for (uint64_t seed = 0; seed < kGraphs; ++seed) {
    const Graph graph = random_graph(seed);
    const std::string xla = emit_hlo(graph, Dialect::xla);
    const std::string neuron = emit_hlo(graph, Dialect::neuron);
    ASSERT_NE(xla, neuron);  // every random graph has a state
    const bool has_top_k = std::any_of(graph.nodes().begin(), graph.nodes().end(),
                                       [](const Node& node) { return node.op == Op::top_k; });
    different += has_top_k ? 1 : 0;
    if (has_top_k) continue;
    hlo::Module module = parse_module(xla, "module");
    for (hlo::AliasEntry& entry : *module.mutable_input_output_alias()->mutable_entries()) {
      ASSERT_EQ(entry.kind(), 1);
      entry.clear_kind();
    }
    ASSERT_EQ(to_bytes(module), neuron) << "seed " << seed;
  }
  EXPECT_GT(different, 0);
}

// Where a top_k stands, too: what is left without its instructions is the same.
TEST(EmitHlo, OutsideTopKTheDialectsAreTheSame) {
  Graph graph("decode");
  const Value x = input(graph, "x", {DType::f32, {2, 8}});
  const Value sum = elementwise(graph, Op::add, {x, x});
  const Value best = top_k(graph, sum, 3);
  graph.outputs = {{"scores", best}, {"ids", {best.node, 1}}, {"sum", sum}};
  const std::string xla = emit_hlo(graph, Dialect::xla);
  const std::string neuron = emit_hlo(graph, Dialect::neuron);
  EXPECT_EQ(common_part(xla), common_part(neuron));
  EXPECT_NE(xla.find("greater"), std::string::npos);
  EXPECT_EQ(neuron.find("greater"), std::string::npos);
  EXPECT_NE(neuron.find("AwsNeuronTopK"), std::string::npos);
}

TEST(EmitHlo, RandomGraphsHaveEveryLegalOp) {
  std::set<std::string_view> missing = {
      "input",      "weight",     "constant",    "iota",        "add",         "subtract",
      "multiply",   "divide",     "maximum",     "minimum",     "exp",         "log",
      "sqrt",       "erf",        "sin",         "cos",         "select_less", "convert",
      "broadcast",  "reshape",    "transpose",   "concatenate", "slice",       "dot",
      "reduce_sum", "reduce_max", "gather_rows", "write_rows",  "top_k"};
  bool has_half_dot = false;
  for (uint64_t seed = 0; seed < kGraphs; ++seed) {
    const Graph graph = random_graph(seed);
    for (const Node& node : graph.nodes()) {
      missing.erase(row(node.op).name);
      const bool is_half = node.op == Op::dot && graph.type(node.inputs[0]).dtype == DType::bf16;
      has_half_dot = has_half_dot || is_half;
    }
  }
  EXPECT_THAT(missing, ::testing::IsEmpty());
  EXPECT_TRUE(has_half_dot);
}

// Different nodes that HLO says in one way become one, or the importer would not find them again.
TEST(EmitHlo, NodesThatMeanTheSameAreOneInstruction) {
  Graph graph("same");
  const Value x = input(graph, "x", {DType::f32, {2, 2}});
  const Value tenth = constant(graph, {0.1}, {DType::f32, {}});
  const Value near = constant(graph, {double{0.1F}}, {DType::f32, {}});
  const Value dead = elementwise(graph, Op::exp, {x});
  const Value rows = slice(graph, x, 0, 0, 2), columns = slice(graph, x, 1, 0, 2);
  graph.outputs = {{"a", tenth}, {"b", near}, {"c", rows}, {"d", columns}};
  EXPECT_EQ(dead, elementwise(graph, Op::exp, {x}));
  const std::string bytes = emit_hlo(graph, Dialect::xla);
  const Graph again = import_hlo(bytes, "module");
  EXPECT_EQ(again.nodes().size(), 3U);
  EXPECT_EQ(emit_hlo(again, Dialect::xla), bytes);
}

// The Internal error for a graph of this output, "" if there is none.
std::string objection_to(const std::function<Value(Graph&, Value)>& build) {
  Graph graph("wrong");
  const Value x = input(graph, "x", {DType::f32, {1, 3}});
  graph.outputs = {{"y", build(graph, x)}};
  try {
    emit_hlo(graph, Dialect::xla);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Internal);
    return error.what();
  }
  return "";
}

// What legalisation leaves never is: each of these is our own mistake.
TEST(EmitHlo, RefusesWhatNoLegalGraphHolds) {
  struct Case {
    const char* part;  // of the message
    std::function<Value(Graph&, Value)> build;
  };
  const Case cases[] = {
      {"no op of HLO", [](Graph& g, Value x) { return pack(g, x); }},
      {"composite", [](Graph& g, Value x) { return log_sum_exp(g, x); }},
      {"is f16[1,3]", [](Graph& g, Value x) { return convert(g, x, DType::f16); }},
      {"stretches axis 0",
       [](Graph& g, Value x) {
         return broadcast(g, x, {2, 3}, {0, 1});
       }},
      {"is no scalar",
       [](Graph& g, Value) {
         return constant(g, {1, 2}, {DType::f32, {2}});
       }},
      {"which f32 does not", [](Graph& g, Value) { return constant(g, {1e39}, {}); }},
      {"which s32 does not",
       [](Graph& g, Value) {
         return constant(g, {1.5}, {DType::s32, {}});
       }},
      {"two dtypes",
       [](Graph& g, Value x) {
         return dot(g, x, weight(g, "w", {DType::bf16, {2, 3}}));
       }},
      {"is of nothing",
       [](Graph& g, Value x) { return reduce(g, Op::reduce_max, slice(g, x, 1, 0, 0)); }},
      {"rows<=4",
       [](Graph& g, Value) {
         return input(g, "n", {DType::s32, {{4, Count::rows}}});
       }},
      {"taken for something else",
       [](Graph& g, Value x) {
         return elementwise(g, Op::add, {x, input(g, "weight.x", g.type(x))});
       }},
      {"'x' is not used", [](Graph& g, Value) { return input(g, "y2", {}); }},
  };
  EXPECT_EQ(objection_to([](Graph&, Value x) { return x; }), "");
  for (const Case& wrong : cases) {
    EXPECT_THAT(objection_to(wrong.build), ::testing::HasSubstr(wrong.part));
  }
}

TEST(EmitHlo, RefusesNamesThatAModuleCannotCarry) {
  const auto refuses = [](const std::string& graph_name, const std::string& output) {
    Graph graph(graph_name);
    graph.outputs = {{output, input(graph, "x", {DType::f32, {1}})}};
    EXPECT_THROW(emit_hlo(graph, Dialect::xla), Error) << graph_name << " " << output;
  };
  refuses("name", "a,b");
  refuses("name", "a\nb");
  refuses("name", "a\xFF");
  refuses("", "a");
  refuses("name", "x.must_alias_input,y");
}

}  // namespace
}  // namespace ng
