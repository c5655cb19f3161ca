// Do the segments of a phase, run one after the other, give what the phase gives?
#include <gmock/gmock.h>

#include "base/refusal_for_test.h"
#include "compile/segments.h"
#include "ir/verify.h"
#include "tiny_model.h"

namespace ng {
namespace {

using testing::HasSubstr;

constexpr Sizes kSizes = {24, 24, 9, 61, 48, 7};

using Values = std::map<std::string, Tensor>;

Values run(const Graph& graph, const Values& inputs) {
  Bindings bound;
  for (const Named& in : graph.inputs()) bound.inputs[in.name] = inputs.at(in.name);
  bound.weight = [weights = test::weights_of(graph)](const std::string& name) {
    return weights.at(name);
  };
  bound.counts.at[static_cast<size_t>(Count::candidates)] = kSizes.candidates;
  return interpret(graph, std::move(bound));
}

// Segments read each other's values by name; `between` may change them.
Values run_in_turn(const std::vector<Segment>& segments, Values values,
                   const std::function<void(Values&)>& between) {
  for (const Segment& segment : segments) {
    for (auto& [name, tensor] : run(segment.graph, values)) values[name] = tensor;
    between(values);
  }
  return values;
}

struct Drawn {
  Graph phase;
  std::vector<std::string> why;
};

// A fused phase whose nodes are the CPU's by chance, those of states all or none.
Drawn draw(std::mt19937_64& random) {
  const auto pick = [&](int most) { return static_cast<int>(random() % (most + 1)); };
  M2M100Config config = test::tiny_config(pick(1) == 0 ? "relu" : "gelu");
  config.encoder.layers = 1 + pick(2);
  config.decoder.layers = 1 + pick(2);
  const Graph built = build_m2m100(config, kPhases[static_cast<size_t>(pick(3))], kSizes);
  Drawn drawn{pick(3) == 0 ? built : fuse(built), {}};
  const int share = pick(10);
  const bool states = pick(1) == 0;
  for (uint32_t at = 0; at < drawn.phase.nodes().size(); ++at) {
    const bool cpu = uses_state(drawn.phase, at) ? states : pick(10) < share;
    drawn.why.push_back(cpu ? "drawn" : "");
  }
  return drawn;
}

TEST(Partition, SegmentsInTurnGiveTheWholesBytes) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    const Drawn drawn = draw(random);
    const std::vector<Segment> segments = partition(drawn.phase, drawn.why);
    const Values inputs = test::random_inputs(drawn.phase, kSizes.rows, 9, 48, random());
    const Values found = run_in_turn(segments, inputs, [](Values&) {});
    for (const auto& [name, tensor] : run(drawn.phase, inputs)) {
      EXPECT_TRUE(test::same_bytes(tensor, found.at(name))) << round << " " << name;
    }
  }
}

TEST(Partition, EveryNodeIsInOneSegmentAndAStateOnOneSide) {
  std::mt19937_64 random(12);
  for (int round = 0; round < 100; ++round) {
    const Drawn drawn = draw(random);
    std::map<std::string, int64_t> ops, expected;
    std::map<std::string, std::set<bool>> sides;
    const std::vector<bool> runs = run_nodes(drawn.phase);
    for (size_t at = 0; at < runs.size(); ++at) {
      if (runs[at]) ++expected[std::string(row(drawn.phase.nodes()[at].op).name)];
    }
    bool cpu = true;
    for (const Segment& segment : partition(drawn.phase, drawn.why)) {
      verify(segment.graph);
      EXPECT_TRUE(ops.empty() || segment.cpu != cpu);
      cpu = segment.cpu;
      for (const auto& [op, count] : segment.ops) ops[op] += count;
      for (const Named& in : segment.graph.inputs()) {
        const Type& type = segment.graph.type(in.value);
        const bool memory = type.shape[0].count == Count::memory;
        if (memory || type.shape[0].count == Count::cache) sides[in.name].insert(cpu);
      }
    }
    EXPECT_EQ(ops, expected);
    for (const auto& [state, found] : sides) EXPECT_EQ(found.size(), 1U) << state;
  }
}

TEST(Partition, ASwappedBoundaryValueIsSeen) {
  const Graph phase = fuse(build_m2m100(test::tiny_config(), "encode", kSizes));
  std::vector<std::string> why;
  for (const Node& node : phase.nodes()) why.push_back(node.op == Op::attend ? "planted" : "");
  const std::vector<Segment> segments = partition(phase, why);
  std::vector<std::string> given;  // queries, keys, values
  for (const Named& in : segments.at(1).graph.inputs()) {
    if (in.name.starts_with("slice.")) given.push_back(in.name);
  }
  ASSERT_EQ(given.size(), 3U);
  const Values inputs = test::random_inputs(phase, kSizes.rows, 9, 48, 3);
  int steps = 0;
  const Values found = run_in_turn(segments, inputs, [&](Values& values) {
    if (steps++ == 0) std::swap(values.at(given[1]), values.at(given[2]));
  });
  EXPECT_FALSE(test::same_bytes(run(phase, inputs).at("hidden"), found.at("hidden")));
}

Model tiny_model() {
  Model model;
  model.vocabulary = 1111;
  model.eos = {2};
  model.build = [](std::string_view phase, const Sizes& sizes) {
    return build_m2m100(test::tiny_config(), phase, sizes);
  };
  return model;
}

StaticOptions small_options() {
  StaticOptions options;
  options.batches = {1, 2};
  options.source_lengths = {6};
  options.target_length = 8;
  return options;
}

std::vector<ModuleSegment> segments(const StaticOptions& options) {
  return segment_modules(tiny_model(), checked(options), {"pjrt"});
}

TEST(Segments, ByDefaultEveryModuleIsWhole) {
  std::vector<ModuleSegment> found = segments(small_options());
  EXPECT_EQ(found.size(), plan_modules(small_options()).size());
  for (const ModuleSegment& module : found) EXPECT_EQ(module.plan.name, module.part_of);
  for (const char* target : {"inf2", "trn1", "trn2"}) {
    EXPECT_EQ(segment_modules(tiny_model(), small_options(), {target}).size(), found.size());
  }
}

TEST(Segments, StatesOfTheCpuAreTheCpusInEveryModule) {
  for (const char* op : {"attend", "write_rows"}) {
    StaticOptions options = small_options();
    options.cpu_ops = {op};
    for (const ModuleSegment& module : segments(options)) {
      if (module.cpu) continue;
      for (const Named& in : module.split.phase.inputs()) {
        EXPECT_EQ(in.name.find("keys."), std::string::npos) << module.plan.name << " " << in.name;
      }
    }
  }
}

TEST(Segments, TellWhatTheyCost) {
  StaticOptions options = small_options();
  options.cpu_ops = {"project_top_k"};
  for (const ModuleSegment& module : segments(options)) {
    if (!module.cpu) continue;
    const int64_t rows = module.plan.sentences * options.beams;
    EXPECT_EQ(module.boundary_bytes, rows * 24 * 4);  // one row of the width each
    EXPECT_THAT(describe(module), HasSubstr(fmt::format("{} FLOP", 2 * rows * 24 * 1111)));
    EXPECT_THAT(describe(module), HasSubstr("1 project_top_k, since --cpu-ops"));
  }
}

TEST(Segments, LimitsAndNamesAreHeldOrRefused) {
  StaticOptions options = small_options();
  options.cpu_ops = {"layer_norm"};
  const auto most = [](const std::vector<ModuleSegment>& found) {
    std::map<std::string, int64_t> counts;
    int64_t largest = 0;
    for (const ModuleSegment& module : found) {
      largest = std::max(largest, ++counts[module.part_of]);
    }
    return largest;
  };
  options.max_subgraph_count = most(segments(options));
  EXPECT_EQ(most(segments(options)), options.max_subgraph_count);
  --options.max_subgraph_count;
  EXPECT_THAT(refusal([&] { segments(options); }), HasSubstr("--max-subgraph-count"));
  options.max_subgraph_count = 0;
  options.min_subgraph_size = 2;
  EXPECT_THAT(refusal([&] { segments(options); }),
              HasSubstr("--min-subgraph-size 2: segment encode-b1-s6-t8.1 has 1 ops"));
  options.cpu_ops = {"softmax"};
  EXPECT_THAT(refusal([&] { segments(options); }),
              HasSubstr("--cpu-ops softmax: the modules' ops"));
}

}  // namespace
}  // namespace ng
