#include "compile/prepare.h"

#include <gmock/gmock.h>

#include <limits>

#include "compile/tiny_for_test.h"
#include "ir/build.h"
#include "ir/decompose.h"
#include "ir/interpret.h"

namespace ng {
namespace {

using testing::HasSubstr;

Progress& quiet() {
  static Progress progress(true);
  return progress;
}

// A bundle that holds `prepare`'s outputs.
Bundle prepared(const Path& path, const Graph& prepare, const WeightRows& weights, int threads) {
  BundleWriter writer(path, false);
  ThreadPool pool(threads);
  write_prepared(prepare, weights, writer, {pool, quiet()});
  writer.commit({{"config", Json::object()},
                 {"generation_config", nullptr},
                 {"dtype", "f32"},
                 {"licence", "none"},
                 {"targets", {"cpu"}},
                 {"model",
                  {{"family", "test"},
                   {"vocabulary", 8},
                   {"pad", 1},
                   {"decoder_start", 2},
                   {"eos", {2}},
                   {"parameters", 1}}}});
  return Bundle::open(path);
}

// Every kind of expression that passes make, over weights of several blocks and of odd sizes.
Graph expressions() {
  Graph g("prepare");
  const Value a = weight(g, "a", Type{DType::f32, {70'001, 33}});
  const Value b = weight(g, "b", Type{DType::f32, {5, 33}});
  const Value joined = concatenate(g, {b, a, b}, 0);
  const Value tall = weight(g, "c", Type{DType::f32, {3, 4}});
  const Value columns = concatenate(g, {tall, tall}, 1);
  g.outputs = {
      {"plain", b},
      {"joined", joined},
      {"packed", pack(g, joined)},
      {"bf16", pack(g, convert(g, joined, DType::bf16))},
      {"converted after", convert(g, pack(g, a), DType::bf16)},
      {"columns", columns},
      {"bias",
       concatenate(
           g, {weight(g, "d", Type{DType::f32, {7}}), weight(g, "e", Type{DType::f32, {20}})}, 0)},
      {"frequencies", frequencies(g, 12)},
      {"some rows", slice(g, joined, 0, 7, 1234)},
      {"some columns, turned", transpose(g, slice(g, a, 1, 2, 9), {1, 0})},
      {"turned", transpose(g, a, {1, 0})},
      {"turned bf16", transpose(g, convert(g, joined, DType::bf16), {1, 0})},
      {"positions", sinusoids(g, iota(g, {DType::s32, {50}}, 0), frequencies(g, 12), 25, 1)}};
  return g;
}

TEST(Prepare, BlocksGiveWhatTheInterpreterGives) {
  const Graph graph = expressions();
  std::map<std::string, Tensor> weights;
  std::mt19937 random(3);
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::weight) continue;
    std::vector<float> values(static_cast<size_t>(element_count(node.types[0].shape)));
    for (float& x : values) x = static_cast<float>(random()) * 0x1p-31F - 1.0F;
    weights[node.attrs.name] = Tensor::of<float>(DType::f32, node.types[0].shape, values);
  }
  const WeightRows rows = [&](const std::string& name, int64_t first, int64_t count) {
    const Tensor& tensor = weights.at(name);
    Type type = tensor.type;
    const auto row = tensor.data.size() / static_cast<size_t>(type.size(0));
    type.shape[0] = count;
    return Tensor{
        type, tensor.owner,
        tensor.data.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(count) * row)};
  };
  Bindings bindings;
  bindings.weight = [&](const std::string& name) { return weights.at(name); };
  const auto expected = interpret(graph, bindings);
  const TemporaryDirectory directory;
  for (const int threads : {1, 3}) {
    const Path path = directory.path / std::to_string(threads);
    const Bundle bundle = prepared(path, graph, rows, threads);
    for (const auto& [name, tensor] : expected) {
      const Tensor found = bundle.weight(name);
      EXPECT_EQ(found.type, tensor.type) << name;
      EXPECT_TRUE(
          std::equal(found.data.begin(), found.data.end(), tensor.data.begin(), tensor.data.end()))
          << name;
    }
    EXPECT_EQ(bundle.weights().size(), expected.size());
  }
}

TEST(Prepare, RefusesAnOpThatNeedsItsWholeLargeInput) {
  Graph graph("prepare");
  const Value a = weight(graph, "a", Type{DType::f32, {10000, 8000}});
  graph.outputs = {{"turned", transpose(graph, a, {1, 0})}};
  const TemporaryDirectory directory;
  const WeightRows none = [](const std::string&, int64_t, int64_t) { return Tensor(); };
  try {
    prepared(directory.path / "bundle", graph, none, 1);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Internal);
    EXPECT_THAT(error.what(), HasSubstr("transpose"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path));
}

TEST(Prepare, WidensShortFloatsAndRoundsDoubles) {
  const std::vector<float> values = {1.5F, -0.0F, 0x1p-24F, 65504.0F, 3.0F, -7.0F};
  for (const DType dtype : {DType::f32, DType::f16, DType::f64}) {
    const TinyCheckpoint directory;
    directory.write({{"stored", stored_as(dtype, {3, 2}, values)}});
    const Checkpoint checkpoint = Checkpoint::open(directory.model);
    const std::map<std::string, std::string> names = {{"graph's", "stored"}};
    const Tensor rows = checkpoint_rows(checkpoint, names)("graph's", 1, 2);
    const Tensor expected = Tensor::of<float>(DType::f32, {2, 2}, std::span(values).subspan(2));
    EXPECT_EQ(rows.type, expected.type);
    EXPECT_TRUE(std::equal(rows.data.begin(), rows.data.end(), expected.data.begin()))
        << name(dtype);
  }
}

TEST(Prepare, NamesTheFirstElementThatIsNotFinite) {
  const auto inf = std::numeric_limits<float>::infinity();
  std::vector<float> values(30'000 * 100);
  values[2'345'678] = inf;
  values[2'800'000] = -inf;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const TinyCheckpoint directory;
    directory.write({{"w", stored_as(dtype, {30'000, 100}, values)}});
    const Checkpoint checkpoint = Checkpoint::open(directory.model);
    Graph graph("prepare");
    graph.outputs = {{"w", weight(graph, "w", Type{DType::f32, {30'000, 100}})}};
    const std::map<std::string, std::string> names = {{"w", "w"}};
    const auto rows = checkpoint_rows(checkpoint, names);
    EXPECT_THAT(refusal([&] { prepared(directory.path / "b", graph, rows, 2); }),
                HasSubstr("'w' holds inf at [23456,78]"));
  }
}

}  // namespace
}  // namespace ng
