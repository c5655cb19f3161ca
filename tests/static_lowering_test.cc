// Do the modules of a static target mean what the ragged phases mean?
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "tiny_model.h"

namespace ng {
namespace {

constexpr int64_t kSlots = 3, kSource = 7, kTarget = 9, kBeams = 2;
constexpr int64_t kCacheRows = kSlots * kBeams * kTarget + 1, kSink = kCacheRows - 1;
constexpr int64_t kBest = 5, kPositions = 16;
using Named32 = std::map<std::string, std::vector<int32_t>>;

struct Module {
  Graph graph{""};
  std::map<std::string, Tensor> weights;
};

std::map<std::string, Tensor> prepared(const Graph& prepare) {
  const std::map<std::string, Tensor> leaves = test::weights_of(prepare);
  Bindings bindings;
  bindings.weight = [&](const std::string& name) { return leaves.at(name); };
  return interpret(prepare, bindings);
}

Module lowered(const std::string& phase, const Sizes& sizes, const LoweringOptions& options) {
  const Split split = lower(build_m2m100(test::tiny_config(), phase, sizes), options);
  return {split.phase, prepared(split.prepare)};
}

// The module for `sentences` of `rows` rows each.
Module static_module(const std::string& phase, int64_t sentences, int64_t rows,
                     DType compute = DType::f32) {
  Sizes sizes = {sentences * rows, sentences * rows, kTarget, kCacheRows, kSlots * kSource, kBest};
  LoweringOptions options;
  options.packed = false;
  options.weight_dtype = compute;
  options.shape = StaticShape{sentences, kSlots, kPositions, compute, true};
  return lowered(phase, sizes, options);
}

Module ragged_module(const std::string& phase) {
  LoweringOptions options;
  options.packed = false;
  return lowered(phase, test::kTinySizes, options);
}

std::map<std::string, Tensor> run(const Module& module, std::map<std::string, Tensor> inputs) {
  Bindings bindings;
  for (const Named& in : module.graph.inputs()) bindings.inputs[in.name] = inputs.at(in.name);
  bindings.weight = [&](const std::string& name) { return module.weights.at(name); };
  bindings.counts.at[static_cast<size_t>(Count::candidates)] = kBest;
  return interpret(module.graph, std::move(bindings));
}

Tensor column(const std::vector<int32_t>& values) {
  return test::s32({static_cast<int64_t>(values.size())}, values);
}

// States of `rows` rows of random numbers, for every input of the module that is one.
void add_states(const Module& module, std::map<std::string, Tensor>& inputs) {
  for (const Named& in : module.graph.inputs()) {
    const Type& type = module.graph.type(in.value);
    if (type.dtype == DType::s32 || inputs.contains(in.name)) continue;
    const int64_t rows = in.name.starts_with("memory") ? kSlots * kSource : kCacheRows;
    inputs[in.name] = test::random_weight(in.name, {DType::f32, {rows, type.shape[1]}});
  }
}

std::vector<float> floats(const Tensor& tensor) {
  std::vector<float> out(tensor.data.size() / sizeof(float));
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

void expect_close(const std::vector<float>& expected, const std::vector<float>& actual,
                  const std::string& what, double bound = 2e-6) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  double largest = 0;
  for (const float x : expected) largest = std::max<double>(largest, std::abs(x));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(expected[i], actual[i], bound * largest) << what << " element " << i;
  }
}

// Rows [first, first + count) of a matrix.
std::vector<float> rows_of(const Tensor& matrix, int64_t first, int64_t count) {
  const std::vector<float> all = floats(matrix);
  const int64_t d = matrix.type.size(1);
  return {all.begin() + first * d, all.begin() + (first + count) * d};
}

// Sentences of these lengths in these slots: packed without padding, and in kRows places each.
struct Encoded {
  static constexpr int64_t kRows = 5;
  std::vector<int64_t> lengths = {5, 3}, slots = {2, 0};
  Named32 packed, padded;
  int32_t tokens = 0;  // packed

  Encoded() {
    int32_t id = 11;
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (int64_t i = 0; i < kRows; ++i) {
        const bool real = i < lengths[s];
        const int32_t token = real ? id += 37 : 1;
        add(padded, s, i, token);
        if (real) add(packed, s, i, token);
      }
      tokens += static_cast<int32_t>(lengths[s]);
    }
  }
  void add(Named32& to, size_t s, int64_t i, int32_t token) const {
    to["tokens"].push_back(token);
    to["positions"].push_back(i < lengths[s] ? static_cast<int32_t>(2 + i) : 1);
    to["length"].push_back(static_cast<int32_t>(lengths[s]));
    to["memory_index"].push_back(static_cast<int32_t>(slots[s] * kSource + i));
    to["start"].push_back(tokens);
  }
};

TEST(StaticLowering, EncodersFillTheSlotsAsThePackedEncoderDoes) {
  Encoded in;
  const Module ragged = ragged_module("encode"), exact = static_module("encode", 2, in.kRows);
  std::map<std::string, Tensor> a, b;
  for (const auto& [name, values] : in.packed) a[name] = column(values);
  a["start"] = test::s32({in.tokens, 1}, in.packed["start"]);
  for (const auto& [name, values] : in.padded) b[name] = column(values);
  add_states(ragged, a);
  add_states(exact, b);
  EXPECT_FALSE(exact.graph.find_input("start"));
  const auto expected = run(ragged, a), actual = run(exact, b);
  EXPECT_EQ(expected.count("encoder.0"), 1U);
  EXPECT_EQ(actual.count("encoder.0"), 0U);
  for (const auto& [name, state] : actual) {
    if (name == "hidden") continue;
    for (size_t s = 0; s < in.lengths.size(); ++s) {
      const int64_t at = in.slots[s] * kSource;
      expect_close(rows_of(expected.at(name), at, in.lengths[s]), rows_of(state, at, in.lengths[s]),
                   name);
    }
    expect_close(rows_of(expected.at(name), kSource, kSource), rows_of(state, kSource, kSource),
                 name + " of the slot that nobody wrote");
  }
}

// One step of a phase: `groups` sentences in these slots, each with its rows.
class StepTest : public testing::TestWithParam<std::string> {
 protected:
  // The same rows for both: rows of the static module that are not used write to the sink.
  void make(const std::vector<int32_t>& slots, int64_t rows, int64_t used) {
    std::mt19937_64 random(5);
    const auto pick = [&](int low, int high) {
      return static_cast<int32_t>(std::uniform_int_distribution<int>(low, high)(random));
    };
    int32_t cache_row = 0;
    for (const int32_t slot : slots) {
      const int32_t memory_length = pick(1, kSource);
      for (int64_t r = 0; r < rows; ++r) {
        const bool real = r < used;
        const int32_t length = real ? pick(1, kTarget) : 1;
        std::vector<int32_t> history(kTarget, 0);
        for (int32_t t = 0; t + 1 < length; ++t) history[static_cast<size_t>(t)] = pick(0, 40);
        history[static_cast<size_t>(length - 1)] = real ? 41 + cache_row++ : kSink;
        add(padded_, history,
            {real ? pick(3, 1100) : 1, real ? pick(2, kPositions - 1) : 1, length,
             history[static_cast<size_t>(length - 1)], memory_length});
        if (!real) continue;
        for (const auto& [name, values] : padded_) {
          const size_t width = name == "history" ? kTarget : 1;
          packed_[name].insert(packed_[name].end(), values.end() - static_cast<long>(width),
                               values.end());
        }
        packed_["memory_start"].push_back(slot * static_cast<int32_t>(kSource));
        kept_.push_back(static_cast<int64_t>(padded_["tokens"].size()) - 1);
      }
    }
    padded_["slot"] = slots;
  }
  static void add(Named32& to, const std::vector<int32_t>& history,
                  const std::array<int32_t, 5>& row) {
    const char* names[] = {"tokens", "positions", "length", "cache_index", "memory_length"};
    for (size_t i = 0; i < row.size(); ++i) to[names[i]].push_back(row[i]);
    to["history"].insert(to["history"].end(), history.begin(), history.end());
  }
  static std::map<std::string, Tensor> bound(const Module& module, const Named32& columns) {
    std::map<std::string, Tensor> inputs;
    const auto rows = static_cast<int64_t>(columns.at("tokens").size());
    for (const auto& [name, values] : columns) {
      if (name == "history")
        inputs[name] = test::s32({rows, kTarget}, values);
      else if (name == "memory_start")
        inputs[name] = test::s32({rows, 1}, values);
      else
        inputs[name] = column(values);
    }
    add_states(module, inputs);
    return inputs;
  }
  void expect_same(const Module& exact) const {
    const Module ragged = ragged_module(GetParam());
    const auto expected = run(ragged, bound(ragged, packed_));
    const auto actual = run(exact, bound(exact, padded_));
    for (const auto& [name, tensor] : actual) {
      const Tensor& wanted = expected.at(name);
      if (name.starts_with("keys") || name.starts_with("values")) {
        expect_close(rows_of(wanted, 0, kSink), rows_of(tensor, 0, kSink), name);
        continue;
      }
      const size_t width = tensor.data.size() / 4 / padded_.at("tokens").size();
      for (size_t i = 0; i < kept_.size(); ++i) {
        const auto row = [&](const Tensor& t, size_t r) {
          return t.data.subspan(r * width * 4, width * 4);
        };
        const auto a = row(wanted, i), b = row(tensor, static_cast<size_t>(kept_[i]));
        if (name == "ids") {
          EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin())) << name << " row " << i;
          continue;
        }
        std::vector<float> x(width), y(width);
        std::memcpy(x.data(), a.data(), a.size());
        std::memcpy(y.data(), b.data(), b.size());
        expect_close(x, y, name);
      }
    }
  }

  Named32 padded_, packed_;
  std::vector<int64_t> kept_;  // the static rows that the ragged ones are, in their order
};

TEST_P(StepTest, RowsOfEverySlotReadTheirSentence) {
  make({0, 1, 2}, kBeams, kBeams);
  const Module exact = static_module(GetParam(), kSlots, kBeams);
  EXPECT_FALSE(exact.graph.find_input("slot"));
  EXPECT_FALSE(exact.graph.find_input("memory_start"));
  expect_same(exact);
}

TEST_P(StepTest, FewerSentencesThanSlotsSayWhoseMemoryTheyRead) {
  make({2}, 4, 3);
  expect_same(static_module(GetParam(), 1, 4));
}

TEST_P(StepTest, UnusedRowsDisturbNobody) {
  make({1, 0}, 3, 1);
  expect_same(static_module(GetParam(), 2, 3));
}

// A device may fault where the interpreter clamps what is read and skips what is written.
TEST_P(StepTest, IndicesOutsideOfATableAreThoseOfItsEnds) {
  make({0, 1, 2}, kBeams, kBeams);
  const Module exact = static_module(GetParam(), kSlots, kBeams);
  std::map<std::string, Tensor> outside = bound(exact, padded_), ends = outside;
  const auto set = [&](const char* name, int32_t below, int32_t last) {
    std::vector<int32_t> far = padded_.at(name), near = far;
    far[0] = below, near[0] = 0, far[1] = last + 1, near[1] = last;
    outside[name] = column(far), ends[name] = column(near);
  };
  set("cache_index", -1, static_cast<int32_t>(kCacheRows) - 1);
  set("tokens", -7, 1110);
  set("positions", -1, static_cast<int32_t>(kPositions) - 1);
  const auto actual = run(exact, outside), expected = run(exact, ends);
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(test::same_bytes(tensor, actual.at(name))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Phases, StepTest, testing::Values("prefill", "decode", "logits"),
                         [](const auto& info) { return info.param; });

TEST(StaticLowering, LeavesWhatTheContractNamesAndNothingElse) {
  for (const std::string phase : {"encode", "prefill", "decode", "logits"}) {
    for (const DType compute : {DType::f32, DType::bf16}) {
      const Graph graph = static_module(phase, 2, 4, compute).graph;
      verify(graph);
      const std::vector<bool> live = live_nodes(graph);
      for (size_t at = 0; at < live.size(); ++at) {
        const Node& node = graph.nodes()[at];
        EXPECT_TRUE(live[at]) << row(node.op).name << " " << node.attrs.name;
        EXPECT_NE(row(node.op).kind, OpKind::composite);
        for (const Type& type : node.types) EXPECT_FALSE(type.counted());
        if (node.op == Op::constant) {
          EXPECT_EQ(node.types[0].rank(), 0);
        }
        if (node.op == Op::dot) {
          EXPECT_EQ(graph.type(node.inputs[0]).dtype, compute);
          EXPECT_EQ(graph.type(node.inputs[1]).dtype, compute);
        }
      }
    }
  }
}

TEST(StaticLowering, OnlyWeightsThatAModuleReadsAreMade) {
  for (const std::string phase : {"encode", "prefill", "decode", "logits"}) {
    const Module module = static_module(phase, 2, 4);
    std::map<std::string, Tensor> unread = module.weights;
    for (const Node& node : module.graph.nodes()) {
      if (node.op == Op::weight) unread.erase(node.attrs.name);
    }
    EXPECT_TRUE(unread.empty()) << phase << ": " << unread.begin()->first;
  }
}

TEST(StaticLowering, Bfloat16RoundsWhatProductsMultiplyAndKeepsSumsInFloat32) {
  const Module exact = static_module("decode", kSlots, kBeams, DType::bf16);
  EXPECT_EQ(exact.graph.type(*exact.graph.find_input("keys.0")).dtype, DType::bf16);
  EXPECT_EQ(exact.graph.type(*exact.graph.find_output("scores")).dtype, DType::f32);
}

TEST(StaticLowering, MatricesLieContractionFirstAndTheEmbeddingDoesNot) {
  const Module exact = static_module("decode", kSlots, kBeams);
  EXPECT_TRUE(exact.weights.contains("model.decoder.layers.0.fc1.weight.transposed"));
  EXPECT_EQ(exact.weights.at("model.decoder.layers.0.fc1.weight.transposed").type.size(0), 24);
  EXPECT_TRUE(exact.weights.contains("model.shared.weight"));
  EXPECT_TRUE(exact.weights.contains(fmt::format("positions.{}", kPositions)));
}

// A decoder of one layer over a vocabulary of n, in which a third of the rows score the same.
Module wide(int64_t n, const std::optional<StaticShape>& shape) {
  M2M100Config config = test::tiny_config();
  config.vocab_size = n;
  config.decoder.layers = 1;
  LoweringOptions options;
  options.packed = false;
  options.shape = shape;
  const Split split = lower(build_m2m100(config, "decode", {1, 2, 4, 9, 4, 7}), options);
  Module module{split.phase, prepared(split.prepare)};
  Tensor& table = module.weights.at("model.shared.weight");
  std::vector<std::byte> bytes(table.data.begin(), table.data.end());
  for (int64_t i = 1; i < n; i += 3) std::copy_n(bytes.begin(), 96, bytes.begin() + i * 96);
  table = Tensor::own(table.type, bytes);
  return module;
}

std::map<std::string, Tensor> two_rows() {
  std::map<std::string, Tensor> inputs;
  inputs["tokens"] = column({3, 8});
  inputs["positions"] = column({2, 3});
  inputs["length"] = column({1, 2});
  inputs["cache_index"] = column({0, 1});
  inputs["memory_length"] = column({2, 4});
  inputs["memory_start"] = test::s32({2, 1}, {0, 0});
  inputs["history"] = test::s32({2, 4}, {0, 0, 0, 0, 0, 1, 0, 0});
  for (const char* name : {"keys.0", "values.0"}) {
    inputs[name] = test::random_f32({DType::f32, {9, 24}}, 4);
    inputs[std::string("memory_") + name] = test::random_f32({DType::f32, {4, 24}}, 5);
  }
  return inputs;
}

Tensor best(const Module& module, const std::map<std::string, Tensor>& inputs) {
  Bindings bindings;
  for (const Named& in : module.graph.inputs()) bindings.inputs[in.name] = inputs.at(in.name);
  bindings.weight = [&](const std::string& name) { return module.weights.at(name); };
  bindings.counts.at[static_cast<size_t>(Count::candidates)] = 7;
  return interpret(module.graph, std::move(bindings)).at("ids");
}

// The best rows of every hidden state all stand from row `first` on: multiples of one, up and down.
Module crowded(Module module, int64_t first) {
  Tensor& table = module.weights.at("model.shared.weight");
  std::vector<float> values = floats(table);
  for (int64_t i = 0; i < 16; ++i) {
    const float scale = static_cast<float>(50 + i) * (i % 2 == 0 ? 1.0F : -1.0F);
    for (int64_t j = 0; j < 24; ++j) {
      values[static_cast<size_t>((first + i) * 24 + j)] = scale * values[static_cast<size_t>(j)];
    }
  }
  table = Tensor::of<float>(DType::f32, table.type.shape, values);
  return module;
}

TEST(StaticLowering, TheBestOfWideRowsMayAllStandInOnePart) {
  const std::map<std::string, Tensor> inputs = two_rows();
  const StaticShape shape{1, 1, 8, DType::f32, false};
  for (const int64_t first : {20, 20000, 39980}) {
    const Tensor expected = best(crowded(wide(40000, {}), first), inputs);
    EXPECT_TRUE(test::same_bytes(expected, best(crowded(wide(40000, shape), first), inputs)));
  }
}

TEST(StaticLowering, TheBestOfWideRowsAreFoundInTwoStagesAmongEqualsTheLowestIds) {
  const std::map<std::string, Tensor> inputs = two_rows();
  for (const int64_t n : {40000, 16384, 16389, 9}) {
    const Module exact = wide(n, StaticShape{1, 1, 8, DType::f32, false});
    EXPECT_TRUE(test::same_bytes(best(wide(n, {}), inputs), best(exact, inputs))) << n;
  }
}

}  // namespace
}  // namespace ng
