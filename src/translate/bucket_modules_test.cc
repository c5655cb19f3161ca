// Are modules of a damaged bundle refused before they run?
#include "translate/bucket_modules.h"

#include <gmock/gmock.h>

#include <array>

#include "base/refusal_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

Type f32(Shape shape) { return {DType::f32, std::move(shape)}; }

// Has ports, and gives back what it is given.
struct Stub : Executable {
  std::vector<Port> in, out;
  std::vector<int32_t>* read;
  Stub(std::vector<Port> inputs, std::vector<Port> outputs, std::vector<int32_t>* into)
      : in(std::move(inputs)), out(std::move(outputs)), read(into) {}
  const std::vector<Port>& inputs() const override { return in; }
  const std::vector<Port>& outputs() const override { return out; }
  void run(std::span<const Argument> inputs, std::span<const Argument> /*outputs*/) override {
    for (const Argument& input : inputs) {
      for (const int32_t value : integers(input)) read->push_back(value);
    }
  }
};

// A phase of one module, of two sentences with three rows each.
struct Phase {
  StaticSizes sizes{.slots = 2,
                    .beams = 3,
                    .prefill_rows = 16,
                    .source = 8,
                    .target = 5,
                    .candidates = 4,
                    .vocabulary = 32,
                    .width = 8};
  HostStates states;
  Executions executions;
  BeamRegions regions;
  std::vector<int32_t> read;
  Bucket bucket{"x-b2", 2, 3, {}};

  void add(const std::vector<Port>& inputs, const std::vector<Port>& outputs, bool cpu = false) {
    bucket.segments.push_back({"segment",
                               [=, this] { return std::make_unique<Stub>(inputs, outputs, &read); },
                               cpu ? &states : nullptr});
  }
  std::string refused(const std::string& phase = "prefill") {
    return error_of([&] { Modules(phase, {bucket}, sizes, executions).load(0); });
  }
};

const Port kTokens{"tokens", s32(Shape{6})}, kValue{"add.1.0", f32({6, 8})},
    kHistory{"history", s32({6, 5})};

TEST(Modules, AValueIsGivenOnce) {
  Phase good;
  good.add({kTokens}, {kValue});
  good.add({kValue}, {{"add.2.0", kValue.type}});
  EXPECT_EQ(good.refused(), "");
  good.add({}, {{kValue.name, f32({6, 2000})}});
  EXPECT_THAT(good.refused(), HasSubstr("gives 'add.1.0' once more"));
}

TEST(Modules, WhatTheRequestGivesIsGivenByNoSegment) {
  for (const bool state : {false, true}) {
    Phase phase;
    phase.add(state ? std::vector{kHistory} : std::vector{kTokens}, {kHistory}, state);
    phase.add({kHistory}, {}, true);
    EXPECT_THAT(phase.refused(), HasSubstr("gives 'history' once more"));
  }
}

TEST(Modules, AStateMayBeGivenByEverySegmentButNotReadByTheOtherSide) {
  const Port state{"keys.0", f32({31, 8})};
  Phase phase;
  phase.add({state}, {state}, true);
  phase.add({state}, {state}, true);
  EXPECT_EQ(phase.refused(), "");
  phase.add({state}, {});
  Modules modules("prefill", {phase.bucket}, phase.sizes, phase.executions);
  Columns columns;
  HostResults results(phase.sizes.parts());
  EXPECT_THAT(refusal([&] { modules.run(0, columns, results); }), HasSubstr("reads keys.0"));
}

// Another phase's module may keep anything as a state.
TEST(Modules, TheRequestsColumnsComeBeforeStatesOfTheirName) {
  Phase phase;
  phase.states["tokens"].resize(6 * sizeof(int32_t));
  phase.add({kTokens}, {}, true);
  Modules modules("prefill", {phase.bucket}, phase.sizes, phase.executions);
  Columns columns;
  for (const int32_t id : {7, 5, 6, 1, 2, 3}) columns.add("tokens", id);
  HostResults results(phase.sizes.parts());
  modules.run(0, columns, results);
  EXPECT_THAT(phase.read, testing::ElementsAre(7, 5, 6, 1, 2, 3));
}

// Rows that no memory holds.
TEST(Modules, AreSeenToFitBeforeTheirSizesAreBelieved) {
  for (const char* name : {"encode", "decode"}) {
    Phase phase;
    phase.bucket.rows = int64_t{1} << 44;
    phase.add({kTokens}, {});
    const auto executable =
        bucketed(name, {phase.bucket}, phase.sizes, phase.executions, phase.regions);
    std::vector<int32_t> values(5, 1);
    std::vector<Argument> inputs, outputs(executable->outputs().size());
    for (const Port& port : executable->inputs()) {
      Shape shape{1};
      if (port.type.rank() == 2) shape.emplace_back(port.name == "history" ? 5 : 1);
      inputs.push_back({s32(shape), reinterpret_cast<std::byte*>(values.data())});
    }
    EXPECT_THAT(refusal([&] { executable->run(inputs, outputs); }),
                HasSubstr("which does not fit its bundle"));
  }
}

}  // namespace
}  // namespace ng
