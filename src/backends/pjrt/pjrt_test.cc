#include "backends/pjrt/pjrt.h"

#include "backends/pjrt/abi.h"
#include "backends/pjrt/standin_for_test.h"
#include "backends/xla/emit_hlo.h"
#include "base/refusal_for_test.h"
#include "ir/build.h"

namespace ng {
namespace {

using ng::testing::device_error;
using ng::testing::kNeuronLike;
using ::testing::HasSubstr;

// Writes rows into a state, and gives their product with a weight.
std::string module_of(int64_t width = 2, const std::string& state = "cache") {
  Graph graph("step");
  const Value rows = input(graph, "rows", {DType::f32, {1, width}});
  const Value index = input(graph, "index", {DType::s32, {1}});
  const Value cache = input(graph, state, {DType::f32, {3, width}});
  const Value matrix = weight(graph, "w", {DType::f32, {4, 2}});
  const Value narrow = slice(graph, rows, 1, 0, 2);
  graph.outputs = {{"product", dot(graph, narrow, matrix)},
                   {state, write_rows(graph, cache, rows, index)}};
  return emit_hlo(graph, HloDialect::xla);
}

// How the stand-in sees that module: parameter 2 is the state.
void set_outputs(standin::Control& control, int64_t width = 2) {
  control.output_count = 2;
  control.outputs[0] = {pjrt::kBufferF32, {1, 4}, 2, -1};
  control.outputs[1] = {pjrt::kBufferF32, {3, width}, 2, 2};
}

class PjrtDeviceTest : public ng::testing::PjrtStandin {
 protected:
  PjrtDeviceTest() { set_outputs(control); }

  std::unique_ptr<PjrtDevice> open(PjrtFormat format = PjrtFormat::any) {
    return open_pjrt({kNeuronLike, format});
  }
  WeightSource weights() {
    return [this](const std::string& name) {
      EXPECT_EQ(name, "w");
      ++weights_asked;
      return Tensor::own(weight_type,
                         std::vector<std::byte>(static_cast<size_t>(byte_count(weight_type))));
    };
  }
  static void step(Executable& executable) {
    std::vector<float> rows(2), product(4, 7.0F);
    std::vector<int32_t> index(1);
    const Argument inputs[] = {{{DType::f32, {1, 2}}, reinterpret_cast<std::byte*>(rows.data())},
                               {{DType::s32, {1}}, reinterpret_cast<std::byte*>(index.data())}};
    const Argument output = {{DType::f32, {1, 4}}, reinterpret_cast<std::byte*>(product.data())};
    executable.run(inputs, {&output, 1});
    EXPECT_EQ(product, std::vector<float>(4)) << "what the stand-in gives";
  }

  Type weight_type = {DType::f32, {4, 2}};
  int weights_asked = 0;
};

TEST_F(PjrtDeviceTest, KeepsStatesAndWeightsOnTheDevice) {
  const auto device = open();
  const auto executable = device->load(module_of(), weights());
  ASSERT_EQ(executable->inputs().size(), 2U);
  EXPECT_EQ(executable->inputs()[0].name, "rows");
  EXPECT_EQ(executable->inputs()[1].name, "index");
  ASSERT_EQ(executable->outputs().size(), 1U);
  EXPECT_EQ(executable->outputs()[0].name, "product");
  const int before = control.calls[pjrt::kFromHost.slot];
  EXPECT_EQ(before, 2) << "the weight and the state";
  const int live = control.live;
  for (int i = 0; i < 5; ++i) step(*executable);
  EXPECT_EQ(control.calls[pjrt::kFromHost.slot], before + 5 * 2) << "inputs alone";
  EXPECT_EQ(control.live, live);
  EXPECT_EQ(device->runs(), std::vector<int64_t>{5});
}

TEST_F(PjrtDeviceTest, SharesThemBetweenModulesByName) {
  const auto device = open();
  const auto first = device->load(module_of(), weights());
  const auto second = device->load(module_of(), weights());
  EXPECT_EQ(weights_asked, 1);
  EXPECT_EQ(control.calls[pjrt::kFromHost.slot], 2);
  for (int i = 0; i < 3; ++i) {  // a state that were not handed on would be used after its donation
    step(*first);
    step(*second);
    step(*second);
  }
  EXPECT_EQ(device->runs(), (std::vector<int64_t>{3, 6}));
  const auto other = device->load(module_of(2, "another"), weights());
  EXPECT_EQ(control.calls[pjrt::kFromHost.slot], 3 + 9 * 2);
  set_outputs(control, 5);
  EXPECT_THAT(refusal([&] { device->load(module_of(5), weights()); }),
              HasSubstr("'cache' is f32[3,2] in one module, f32[3,5] in another"));
}

TEST_F(PjrtDeviceTest, TakesEachStateFromTheOutputThatIsItsAlias) {
  Graph graph("two");
  const Value index = input(graph, "index", {DType::s32, {1}});
  std::vector<Named> states;
  for (const int64_t width : {2, 3}) {
    const std::string name = fmt::format("state{}", width);
    const Value state = input(graph, name, {DType::f32, {4, width}});
    const Value row = weight(graph, fmt::format("row{}", width), {DType::f32, {1, width}});
    states.push_back({name, write_rows(graph, state, row, index)});
  }
  graph.outputs = {states[1], states[0]};
  control.outputs[0] = {pjrt::kBufferF32, {4, 3}, 2, 2};
  control.outputs[1] = {pjrt::kBufferF32, {4, 2}, 2, 1};
  const auto device = open();
  const auto executable =
      device->load(emit_hlo(graph, HloDialect::xla), [](const std::string& name) {
        const int64_t width = name == "row2" ? 2 : 3;
        return Tensor::own({DType::f32, {1, width}}, std::vector<std::byte>(size_t(4 * width)));
      });
  EXPECT_TRUE(executable->outputs().empty());
  std::vector<std::byte> bytes(4);
  const Argument argument = {{DType::s32, {1}}, bytes.data()};
  for (int i = 0; i < 3; ++i) executable->run({&argument, 1}, {});  // the stand-in looks at sizes
}

TEST_F(PjrtDeviceTest, TakesBuffersOfExactlyTheModulesTypes) {
  const auto device = open();
  const auto executable = device->load(module_of(), weights());
  std::vector<std::byte> bytes(64);
  const Argument rows = {{DType::f32, {1, 2}}, bytes.data()},
                 index = {{DType::s32, {1}}, bytes.data()};
  const Argument product = {{DType::f32, {1, 4}}, nullptr};
  const std::vector<Argument> swapped = {index, rows}, right = {rows, index};
  EXPECT_THAT(refusal([&] {
                executable->run(swapped, {&product, 1});
              }),
              HasSubstr("'rows' is s32[1], the module has exactly f32[1,2]"));
  EXPECT_THAT(refusal([&] { executable->run(right, {&rows, 1}); }), HasSubstr("'product' is"));
  executable->run(right, {&product, 1});
  EXPECT_EQ(control.calls[pjrt::kToHost.slot], 0) << "nobody wants the output";
}

TEST_F(PjrtDeviceTest, ChecksWhatThePluginMadeOfAModule) {
  const auto device = open();
  const auto load_error = [&] {
    return device_error([&] { device->load(module_of(), weights()); });
  };
  control.alias_error = -8;
  EXPECT_THAT(load_error(), HasSubstr("the states that change in place are 24 bytes, it finds 16"));
  for (const int64_t other : {-24, 40, 0}) {  // it copies, or its layouts are wider
    control.alias_error = other;
    EXPECT_NO_THROW(device->load(module_of(), weights())) << other;
  }
  control.outputs[0].dims[1] = 3;
  EXPECT_THAT(load_error(), HasSubstr("output 'product' is f32[1,4], it finds f32[1,3]"));
  control.output_count = 1;
  EXPECT_THAT(load_error(), HasSubstr("it finds 1 outputs of 2"));
  set_outputs(control);
  control.no_statistics = true;
  EXPECT_NO_THROW(device->load(module_of(), weights()));
}

TEST_F(PjrtDeviceTest, RefusesArtifactsAndWeightsThatDoNotFit) {
  const auto device = open();
  EXPECT_NE(refusal([&] { device->load("no module", weights()); }), "");
  weight_type.shape = {2, 4};
  EXPECT_THAT(refusal([&] { device->load(module_of(), weights()); }),
              HasSubstr("weight 'w' is f32[2,4], the module wants f32[4,2]"));
}

TEST_F(PjrtDeviceTest, GivesPluginsWithoutHloStableHlo) {
  const auto last = [&] { return std::string(control.last_format); };
  step(*open()->load(module_of(), weights()));
  EXPECT_EQ(last(), "hlo");
  step(*open(PjrtFormat::mlir)->load(module_of(), weights()));
  EXPECT_EQ(last(), "mlir");
  control.knows_hlo = false;
  {
    const auto device = open();
    device->load(module_of(), weights());
    EXPECT_EQ(last(), "mlir");
    control.calls[pjrt::kCompile.slot] = 0;
    device->load(module_of(), weights());
    EXPECT_EQ(control.calls[pjrt::kCompile.slot], 1) << "not asked again";
  }
  EXPECT_THAT(device_error([&] { open(PjrtFormat::hlo)->load(module_of(), weights()); }),
              HasSubstr("Unknown program format 'hlo'"));
}

TEST_F(PjrtDeviceTest, LosesAStateWithTheRunThatFails) {
  const auto device = open();
  const auto executable = device->load(module_of(), weights());
  control.failing = pjrt::kExecute.slot;
  control.failing_message = "the core hangs";
  EXPECT_THAT(device_error([&] { step(*executable); }), HasSubstr("Execute: the core hangs"));
  EXPECT_THAT(device_error([&] { step(*executable); }),
              HasSubstr("state 'cache' was lost when a run failed"));
  EXPECT_EQ(device->runs(), std::vector<int64_t>{0});
}

// Whatever fails, from opening to the second run.
TEST_F(PjrtDeviceTest, EndsInOneDeviceErrorAndLeaksNothing) {
  const auto use = [&] {
    const auto device = open();
    const auto executable = device->load(module_of(), weights());
    step(*executable);
    step(*executable);
  };
  use();
  const standin::Control well = control;
  for (int slot = 2; slot < standin::kFunctions; ++slot) {
    for (int call = 1; call <= well.calls[slot]; ++call) {
      reset();
      set_outputs(control);
      control.failing = slot;
      control.failing_call = call;
      control.failing_message = "planted";
      try {
        use();
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), Error::Kind::Device);
        EXPECT_THAT(error.what(), HasSubstr(": planted"));
      }
      EXPECT_GE(control.calls[slot], call);
      expect_clean(fmt::format("call {} of function {}", call, slot));
    }
  }
}

}  // namespace
}  // namespace ng
