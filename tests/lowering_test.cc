// Do lowered graphs, on the interpreter and on the CPU, mean what the built ones mean?
#include <gtest/gtest.h>

#include "backends/cpu/cpu.h"
#include "base/refusal_for_test.h"
#include "ir/text.h"
#include "passes/passes.h"
#include "tiny_model.h"

namespace ng {
namespace {

using test::kTinySizes;

constexpr int64_t kCandidates = 37;

struct Case {
  std::string phase, activation;
  int64_t rows;
};

Bindings bindings(const Graph& graph, const std::map<std::string, Tensor>& inputs,
                  const std::map<std::string, Tensor>& weights) {
  Bindings bound;
  bound.inputs = inputs;
  bound.weight = [&weights](const std::string& name) { return weights.at(name); };
  if (graph.find_output("ids")) {
    bound.counts.at[static_cast<size_t>(Count::candidates)] = kCandidates;
  }
  return bound;
}

std::map<std::string, Tensor> prepared(const Graph& prepare) {
  const std::map<std::string, Tensor> leaves = test::weights_of(prepare);
  return interpret(prepare, bindings(prepare, {}, leaves));
}

std::map<std::string, Tensor> run_on_cpu(const Graph& graph, std::map<std::string, Tensor> inputs,
                                         const std::map<std::string, Tensor>& weights,
                                         int threads) {
  const std::unique_ptr<Device> device = open_cpu({threads});
  const auto executable =
      device->load(print(graph), [&](const std::string& name) { return weights.at(name); });
  std::map<std::string, std::vector<std::byte>> memory;  // inputs and states by name
  Counts counts;
  counts.at[static_cast<size_t>(Count::candidates)] = kCandidates;
  std::vector<Argument> in, out;
  for (const Port& port : executable->inputs()) {
    const Tensor& tensor = inputs.at(port.name);
    counts.bind(port.type, tensor.type, port.name);
    auto& bytes = memory[port.name];
    bytes.assign(tensor.data.begin(), tensor.data.end());
    in.push_back({tensor.type, bytes.data()});
  }
  for (const Port& port : executable->outputs()) {
    const Type type = counts.resolve(port.type);
    auto& bytes = memory[port.name];
    bytes.resize(static_cast<size_t>(byte_count(type)));
    out.push_back({type, bytes.data()});
  }
  executable->run(in, out);
  std::map<std::string, Tensor> results;
  for (size_t i = 0; i < out.size(); ++i) {
    const std::string& name = executable->outputs()[i].name;
    results[name] = Tensor::own(out[i].type, memory.at(name));
  }
  return results;
}

void expect_same(const std::map<std::string, Tensor>& expected,
                 const std::map<std::string, Tensor>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(test::same_bytes(tensor, actual.at(name))) << name;
  }
}

class LoweringTest : public testing::TestWithParam<Case> {
 protected:
  Graph graph_ =
      build_m2m100(test::tiny_config(GetParam().activation), GetParam().phase, kTinySizes);
  std::map<std::string, Tensor> inputs_ =
      test::random_inputs(graph_, GetParam().rows, 9, 60, 7 + GetParam().rows);
};

TEST_P(LoweringTest, EveryPassKeepsTheBytesOfFloat32) {
  const auto expected = interpret(graph_, bindings(graph_, inputs_, test::weights_of(graph_)));
  for (const std::string_view stage : stage_names()) {
    LoweringOptions options;
    options.stop_after = std::string(stage);
    const Split split = lower(graph_, options);
    const auto weights = prepared(split.prepare);
    expect_same(expected, interpret(split.phase, bindings(split.phase, inputs_, weights)));
  }
}

TEST_P(LoweringTest, TheCpuGivesTheInterpretersBytes) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    LoweringOptions options;
    options.weight_dtype = dtype;
    const Split split = lower(graph_, options);
    const auto weights = prepared(split.prepare);
    const auto expected = interpret(split.phase, bindings(split.phase, inputs_, weights));
    expect_same(expected, run_on_cpu(split.phase, inputs_, weights, 1));
    expect_same(expected, run_on_cpu(split.phase, inputs_, weights, 3));
  }
}

INSTANTIATE_TEST_SUITE_P(Phases, LoweringTest,
                         testing::Values(Case{"encode", "relu", 5}, Case{"encode", "gelu", 33},
                                         Case{"prefill", "relu", 20}, Case{"decode", "swish", 4},
                                         Case{"decode", "gelu", 23}, Case{"logits", "relu", 17}),
                         [](const auto& info) {
                           return info.param.phase + "_" + info.param.activation;
                         });

TEST(Fuse, MergesQueriesKeysAndValuesAndTakesActivationsAndResiduals) {
  const Graph graph = build_m2m100(test::tiny_config(), "encode", kTinySizes);
  int before = 0, after = 0, adds = 0;
  for (const Node& node : graph.nodes()) before += node.op == Op::linear ? 1 : 0;
  const Graph fused = fuse(graph);
  for (const Node& node : fused.nodes()) {
    after += node.op == Op::linear ? 1 : 0;
    adds += node.op == Op::add || node.op == Op::activate ? 1 : 0;
  }
  EXPECT_EQ(before, 2 * 6 + 3 * 2);
  EXPECT_EQ(after, 2 * 4 + 2);  // q, k, v are one; six cross keys and values are four and two
  EXPECT_EQ(adds, 0);
}

TEST(Precision, ChangesMatricesOnly) {
  const Split split = lower(build_m2m100(test::tiny_config(), "decode", kTinySizes),
                            {DType::bf16, true, true, "", {}});
  for (const Node& node : split.phase.nodes()) {
    if (node.op == Op::weight) {
      EXPECT_EQ(node.types[0].dtype == DType::bf16, node.types[0].rank() == 3) << node.attrs.name;
    }
  }
}

TEST(Lower, NamesAnUnknownPass) {
  const Graph graph = build_m2m100(test::tiny_config(), "encode", kTinySizes);
  LoweringOptions options;
  options.without = {"fusion"};
  EXPECT_EQ(refusal([&] { lower(graph, options); }),
            "there is no pass \"fusion\"; the passes are fuse, precision, pack, positions");
}

TEST(MergePrepare, GivesEachTensorOnce) {
  const M2M100Config config = test::tiny_config();
  Graph prepare("prepare");
  size_t outputs = 0;
  for (const char* phase : {"decode", "logits", "prefill"}) {
    merge_prepare(prepare, lower(build_m2m100(config, phase, kTinySizes), {}).prepare);
    if (outputs == 0) outputs = prepare.outputs.size();
  }
  EXPECT_EQ(prepare.outputs.size(), outputs);
}

}  // namespace
}  // namespace ng
