#include "backends/neuron/neuron.h"

#include <gmock/gmock.h>

#include <test_paths.h>
#include <cstring>
#include <functional>
#include <map>

#include "backends/neuron/emulated_nrt_for_test.h"
#include "backends/neuron/nrt_status.h"
#include "backends/xla/emit_hlo.h"
#include "backends/xla/random_legal_for_test.h"
#include "base/refusal_for_test.h"
#include "emulated/pseudo_neff.h"

namespace ng {
namespace {

using ::testing::HasSubstr;

Value clamped(Graph& g, Value ids, int64_t rows) {
  const Type type = g.type(ids);
  const auto filled = [&](double value) {
    return broadcast(g, constant(g, {value}, {DType::s32, {}}), type.shape, {});
  };
  const Value low = elementwise(g, Op::maximum, {ids, filled(0)});
  return elementwise(g, Op::minimum, {low, filled(static_cast<double>(rows - 1))});
}

// Writes a row into a state and gives what stands there, times a weight.
Graph writer(const std::string& name, const std::string& state = "cache") {
  Graph g(name);
  const Value rows = input(g, "rows", {DType::f32, {1, 2}});
  const Value index = clamped(g, input(g, "index", {DType::s32, {1}}), 3);
  const Value cache = input(g, state, {DType::f32, {3, 2}});
  const Value written = write_rows(g, cache, rows, index);
  const Value product =
      dot(g, gather_rows(g, written, index), weight(g, "w", {DType::f32, {4, 2}}));
  g.outputs = {{"product", product}, {state, written}};
  return g;
}

// Reads that state, which it does not write.
Graph reader() {
  Graph g("reader");
  const Value index = clamped(g, input(g, "index", {DType::s32, {1}}), 3);
  g.outputs = {{"row", gather_rows(g, input(g, "cache", {DType::f32, {3, 2}}), index)}};
  return g;
}

// The message of a Device error, "" if `act` ends well.
std::string device_error(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Device) << error.what();
    return error.what();
  }
  return "";
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class NeuronDevice : public ::testing::Test {
 protected:
  void add(const Graph& graph) {
    modules[graph.name] = emit_hlo(graph, HloDialect::neuron);
    neffs[graph.name] = pseudo_neff(modules[graph.name], graph.name, kVersion, 1);
  }
  std::unique_ptr<Device> open(bool emulated = true, const std::string& library = NG_EMULATED_NRT,
                               int core = 0) {
    DeviceOptions options;
    options.library = library;
    options.core = core;
    options.emulated = emulated;
    options.programs = [this](const std::string& name) { return bytes_of(neffs.at(name)); };
    return open_neuron(find_neuron_target("inf2"), options);
  }
  std::unique_ptr<Executable> load(Device& device, const std::string& name) {
    return device.load(modules.at(name), [this](const std::string& weight) {
      EXPECT_EQ(weight, "w");
      ++weights_asked;
      return Tensor::of<float>(DType::f32, {4, 2}, std::vector<float>{1, 0, 0, 1, 1, 1, 2, 3});
    });
  }
  static std::vector<float> write(Executable& executable, float x, float y, int32_t index) {
    std::vector<float> row = {x, y}, product(4);
    const Argument inputs[] = {{{DType::f32, {1, 2}}, reinterpret_cast<std::byte*>(row.data())},
                               {{DType::s32, {1}}, reinterpret_cast<std::byte*>(&index)}};
    const Argument output = {{DType::f32, {1, 4}}, reinterpret_cast<std::byte*>(product.data())};
    executable.run(inputs, {&output, 1});
    return product;
  }
  static std::vector<float> read(Executable& executable, int32_t index) {
    std::vector<float> row(2);
    const Argument input = {{DType::s32, {1}}, reinterpret_cast<std::byte*>(&index)};
    const Argument output = {{DType::f32, {1, 2}}, reinterpret_cast<std::byte*>(row.data())};
    executable.run({&input, 1}, {&output, 1});
    return row;
  }
  void expect_nothing_left() const {
    EXPECT_EQ(nrt.live(), 0U);
    EXPECT_EQ(nrt.misuse(), 0U);
  }

  static inline const NeuronVersion kVersion = *parse_neuron_version("2.27.5334.0");
  EmulatedNrt nrt;
  std::map<std::string, std::string> modules, neffs;
  int weights_asked = 0;
};

TEST_F(NeuronDevice, ModulesShareWeightsAndStatesByName) {
  add(writer("one"));
  add(writer("two"));
  add(reader());
  {
    const auto device = open();
    const auto one = load(*device, "one"), two = load(*device, "two"),
               three = load(*device, "reader");
    EXPECT_EQ(read(*three, 0), (std::vector<float>{0, 0})) << "a state begins as zeros";
    EXPECT_EQ(write(*one, 5, 7, 0), (std::vector<float>{5, 7, 12, 31}));
    EXPECT_EQ(write(*two, 1, 2, 2), (std::vector<float>{1, 2, 3, 8}));
    EXPECT_EQ(read(*three, 0), (std::vector<float>{5, 7}));
    EXPECT_EQ(read(*three, 2), (std::vector<float>{1, 2}));
    EXPECT_EQ(three->inputs().size(), 1U) << "the state is not the caller's";
    EXPECT_EQ(weights_asked, 1);
    EXPECT_EQ(device->description(), "emulated inf2 (libnrt 2.34.10.0)");
    EXPECT_STREQ(std::getenv("NEURON_RT_STOCHASTIC_ROUNDING_EN"), "0");
  }
  expect_nothing_left();
}

TEST_F(NeuronDevice, AFaultLeavesZerosInStatesAndTheDeviceCanBeUsedOn) {
  add(writer("one"));
  add(reader());
  for (const char* fault : {"nrt_execute@3=1003", "nrt_tensor_read@2=4"}) {
    nrt.reset();
    const auto device = open();
    const auto one = load(*device, "one"), two = load(*device, "reader");
    const Environment planted("EMULATED_NRT", fault);
    write(*one, 5, 7, 0);
    EXPECT_THROW((read(*two, 0), write(*one, 1, 1, 1)), Fault) << fault;
    EXPECT_EQ(read(*two, 0), (std::vector<float>{0, 0}));
    EXPECT_EQ(write(*one, 1, 2, 2), (std::vector<float>{1, 2, 3, 8}));
  }
  expect_nothing_left();
}

TEST_F(NeuronDevice, ANeffThatIsTooNewIsRefusedWithBothVersionsAndTheCommand) {
  add(writer("one"));
  const Environment planted("EMULATED_NRT", "nrt_load@1=10");
  const auto device = open();
  const std::string error = device_error([&] { load(*device, "one"); });
  EXPECT_THAT(error, HasSubstr("one.neff (by neuronx-cc emulated-2.27.5334.0) on emulated inf2 "
                               "(libnrt 2.34.10.0) gave NRT_UNSUPPORTED_NEFF_VERSION"));
  EXPECT_THAT(error, HasSubstr("the runtime is the older: sudo apt-get update"));
}

TEST_F(NeuronDevice, CoresHaveStatesOfTheirOwnAndTheLibraryInCommon) {
  const Environment cores("EMULATED_NRT_CORES", "2");
  add(writer("one"));
  add(reader());
  {
    auto device = open();
    EXPECT_EQ(device->replicas(), 2);
    const auto other = open(true, NG_EMULATED_NRT, 1);
    const auto one = load(*other, "one"), two = load(*other, "reader");
    {
      const auto mine = load(*device, "one"), reads = load(*device, "reader");
      EXPECT_EQ(write(*mine, 5, 7, 0), (std::vector<float>{5, 7, 12, 31}));
      EXPECT_EQ(read(*two, 0), (std::vector<float>{0, 0}));
      EXPECT_EQ(write(*one, 1, 2, 0), (std::vector<float>{1, 2, 3, 8}));
      EXPECT_EQ(read(*reads, 0), (std::vector<float>{5, 7}));
    }
    device.reset();  // the other's library is still open
    EXPECT_EQ(read(*two, 0), (std::vector<float>{1, 2}));
    EXPECT_THAT(device_error([&] { open(true, NG_EMULATED_NRT, 2); }), HasSubstr("core 2"));
  }
  expect_nothing_left();
}

TEST_F(NeuronDevice, RandomModulesGiveTheInterpretersBytesStepByStep) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Graph graph = RandomLegal(seed).graph(30);
    add(graph);
    std::map<std::string, Tensor> tensors = random_tensors(graph, seed);
    const auto weights = tensors;
    const auto device = open();
    const auto executable = device->load(modules.at(graph.name),
                                         [&](const std::string& name) { return weights.at(name); });
    for (const Named& output : graph.outputs) {
      if (!graph.find_input(output.name)) continue;
      Tensor& state = tensors.at(output.name);
      state = Tensor::own(state.type, std::vector<std::byte>(state.data.size()));
    }
    for (uint64_t step = 0; step < 3; ++step) {
      auto expected = results_of(graph, tensors);
      std::vector<Argument> inputs, outputs;
      for (const Port& port : executable->inputs()) {
        auto* bytes = const_cast<std::byte*>(tensors.at(port.name).data.data());
        inputs.push_back({port.type, bytes});
      }
      std::vector<std::vector<std::byte>> room;
      for (const Port& port : executable->outputs()) {
        room.emplace_back(static_cast<size_t>(byte_count(port.type)));
      }
      for (size_t i = 0; i < room.size(); ++i) {
        outputs.push_back({executable->outputs()[i].type, room[i].data()});
      }
      executable->run(inputs, outputs);
      for (size_t i = 0; i < room.size(); ++i) {
        const Tensor& result = expected.at(executable->outputs()[i].name);
        EXPECT_TRUE(std::equal(room[i].begin(), room[i].end(), result.data.begin())) << seed;
      }
      const auto more = random_tensors(graph, seed + 1000 * (step + 1));
      for (auto& [name, tensor] : tensors) {
        if (expected.contains(name)) tensor = expected.at(name);
      }
      for (const Port& port : executable->inputs()) tensors[port.name] = more.at(port.name);
    }
  }
  expect_nothing_left();
}

// Opens, loads two modules, runs both twice. What fails is tried again, on a new device where the
// old one was lost.
struct Attempts {
  std::unique_ptr<Device> device;
  std::unique_ptr<Executable> one, two;
  std::vector<std::string> errors;
};

class NeuronFaults : public NeuronDevice {
 protected:
  NeuronFaults() {
    add(writer("one"));
    add(writer("two"));
  }
  void go(Attempts& a) {
    if (!a.device) a.device = open();
    if (!a.one) a.one = load(*a.device, "one");
    if (!a.two) a.two = load(*a.device, "two");
    for (const float x : {1.0F, 2.0F}) {
      EXPECT_EQ(write(*a.one, x, 7, 0), (std::vector<float>{x, 7, x + 7, 2 * x + 21}));
      EXPECT_EQ(write(*a.two, x, 0, 1), (std::vector<float>{x, 0, x, 2 * x}));
    }
  }
  // The messages until all went well.
  std::vector<std::string> attempt(bool restarts) {
    Attempts a;
    for (int i = 0; i < 3; ++i) {
      const std::string message = device_error([&] { go(a); });
      if (message.empty()) break;
      a.errors.push_back(message);
      if (!restarts || !a.device) continue;
      EXPECT_THAT(device_error([&] { go(a); }), HasSubstr("the device was lost before"));
      a.one.reset();
      a.two.reset();
      a.device.reset();
    }
    return a.errors;
  }
};

TEST_F(NeuronFaults, EveryStatusOfEveryFunctionIsRetriedOrSaidAndNothingLeaks) {
  const std::pair<const char*, std::vector<int>> functions[] = {
      {"nrt_init", {1}},
      {"nrt_load", {1, 2}},
      {"nrt_get_model_tensor_info", {1, 2}},
      {"nrt_free_model_tensor_info", {1, 2}},
      {"nrt_tensor_allocate", {1, 2, 3, 6}},
      {"nrt_tensor_write", {1, 2, 3, 8}},
      {"nrt_tensor_read", {1, 4}},
      {"nrt_allocate_tensor_set", {1, 2, 4}},
      {"nrt_add_tensor_to_tensor_set", {1, 5, 9}},
      {"nrt_execute", {1, 4}},
      {"nrt_unload", {1, 2}},
  };
  for (const auto& [function, calls] : functions) {
    for (const nrt::StatusRow& row : nrt::statuses()) {
      for (const int call : calls) {
        SCOPED_TRACE(fmt::format("{}@{}={}", function, call, row.name));
        nrt.reset();
        const Environment fault("EMULATED_NRT",
                                fmt::format("{}@{}={}", function, call, row.status));
        const auto errors = attempt(row.policy == nrt::Policy::restart);
        const bool silent =
            row.policy == nrt::Policy::retry || std::string_view(function) == "nrt_unload";
        ASSERT_EQ(errors.size(), silent ? 0U : 1U);
        if (!silent) {
          EXPECT_THAT(errors[0], HasSubstr(function));
          EXPECT_THAT(errors[0], HasSubstr(fmt::format(" gave {}", row.name)));
        }
        expect_nothing_left();
      }
    }
  }
}

TEST_F(NeuronFaults, MemoryThatEndsAnywhereIsSaidAndNothingLeaks) {
  size_t failed = 0;
  const uint64_t enough = neffs["one"].size() + neffs["two"].size() + 1000;
  for (uint64_t limit = 0; limit <= enough; limit += limit + 200 < neffs["one"].size() ? 2000 : 8) {
    SCOPED_TRACE(limit);
    nrt.reset();
    const Environment memory("EMULATED_NRT_MEMORY", std::to_string(limit));
    Attempts a;
    const std::string message = device_error([&] { go(a); });
    if (!message.empty()) {
      EXPECT_THAT(message, HasSubstr("too little memory left"));
      EXPECT_THAT(message, HasSubstr("MB are used"));
      ++failed;
    }
    a.one.reset();
    a.two.reset();
    a.device.reset();
    expect_nothing_left();
  }
  EXPECT_GT(failed, 10U);
  EXPECT_EQ(device_error([&] {
              Attempts a;
              go(a);
              a.one.reset();
              a.two.reset();
            }),
            "");
}

TEST_F(NeuronFaults, ABusyCoreIsWaitedForButNotForEver) {
  {
    const Environment slow("EMULATED_NRT", "nrt_execute@1=7,nrt_execute@2=1005,nrt_execute@3=30ms");
    EXPECT_TRUE(attempt(false).empty());
  }
  nrt.reset();
  const Environment busy("EMULATED_NRT", "nrt_execute@1+=7");
  Attempts a;
  EXPECT_THAT(device_error([&] { go(a); }), HasSubstr("NRT_QUEUE_FULL (7) 10 times"));
}

TEST_F(NeuronDevice, ANeffThatIsNotTheModulesIsRefused) {
  add(writer("one"));
  add(writer("other", "another"));
  const auto device = open();
  std::string& neff = neffs["one"];
  const std::string good = neff;
  neff = neffs["other"];
  EXPECT_THAT(device_error([&] { load(*device, "one"); }),
              HasSubstr("it has no input 'cache.must_alias_input'"));
  Graph wide("wide");
  const Value x = input(wide, "x", {DType::f32, {4}});
  wide.outputs = {{"y", elementwise(wide, Op::exp, {x})}};
  Graph narrow("wide");
  const Value z = input(narrow, "x", {DType::f32, {3}});
  narrow.outputs = {{"y", elementwise(narrow, Op::exp, {z})}};
  add(narrow);
  modules["wide"] = emit_hlo(wide, HloDialect::neuron);
  EXPECT_THAT(device_error([&] { load(*device, "wide"); }), HasSubstr("12 bytes, f32[4] has 16"));
  neff = good;
  neff.back() ^= 1;
  EXPECT_THAT(device_error([&] { load(*device, "one"); }), HasSubstr("UNSUPPORTED_NEFF_VERSION"));
  neff = good.substr(0, 1500);
  EXPECT_THAT(refusal([&] { load(*device, "one"); }), HasSubstr("one.neff: is cut short"));
  neff = pseudo_neff(modules["one"], "one", kVersion, 2);
  EXPECT_THAT(refusal([&] { load(*device, "one"); }), HasSubstr("NEURON_LOGICAL_NC_CONFIG=2"));
  neff = good;
  EXPECT_EQ(write(*load(*device, "one"), 5, 7, 0), (std::vector<float>{5, 7, 12, 31}));
}

TEST_F(NeuronDevice, PseudoNeffsRunOnTheStandInAlone) {
  add(writer("one"));
  const auto device = open(false);
  EXPECT_THAT(refusal([&] { load(*device, "one"); }), HasSubstr("--device emulated"));
}

TEST_F(NeuronDevice, ALibraryThatIsMissingOrNoneIsSaidByName) {
  EXPECT_THAT(device_error([&] { open(false, "/none/libnrt.so.1"); }),
              HasSubstr("/none/libnrt.so.1: cannot be loaded"));
  EXPECT_THAT(device_error([&] { open(false, "libm.so.6"); }), HasSubstr("lacks nrt_init"));
  const Environment named("NEUROGLOT_LIBNRT", "/other/libnrt.so.1");
  EXPECT_THAT(device_error([&] { open(false, ""); }), HasSubstr("/other/libnrt.so.1"));
}

}  // namespace
}  // namespace ng
