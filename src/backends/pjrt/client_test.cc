#include "backends/pjrt/client.h"

#include <numeric>

#include "backends/pjrt/standin_for_test.h"

namespace ng::pjrt {
namespace {

using ng::testing::device_error;
using ng::testing::kNeuronLike;
using ng::testing::kNeuronVariable;
using ng::testing::plain_plugin;
using ::testing::HasSubstr;

const Type kState = {DType::f32, {2, 3}}, kOutput = {DType::bf16, {4}};

// A module of two parameters; output 0 is new, output 1 is parameter 1 again.
void set_outputs(standin::Control& control) {
  control.output_count = 2;
  control.outputs[0] = {kBufferBf16, {4}, 1, -1};
  control.outputs[1] = {kBufferF32, {2, 3}, 2, 1};
}

std::vector<std::byte> counted(const Type& type) {
  std::vector<std::byte> bytes(static_cast<size_t>(byte_count(type)));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

// Everything that a client does, on `devices` devices.
void use(const std::string& library, int devices) {
  const Client client(library, devices);
  EXPECT_THAT(client.description(), HasSubstr("stand-in, PJRT 0."));
  client.memory(0);
  const Compiled compiled = client.compile("hlo", "module", devices);
  EXPECT_EQ(compiled.outputs, 2U);
  const std::vector types = {kOutput, kState};
  EXPECT_EQ(compiled.output_types.value_or(types), types);
  EXPECT_EQ(compiled.memory.value_or(CompiledMemory{0, 0, 24, 0}).aliases, 24);
  const std::vector<std::byte> input = counted(kOutput), state = counted(kState);
  std::vector<Handle> inputs, states;
  for (size_t i = 0; i < static_cast<size_t>(devices); ++i) {
    inputs.push_back(client.upload(kOutput, input.data(), i));
    states.push_back(client.upload(kState, state.data(), i));
  }
  for (int step = 0; step < 2; ++step) {
    std::vector<std::vector<void*>> arguments;
    for (size_t i = 0; i < inputs.size(); ++i) {
      arguments.push_back({inputs[i].get(), states[i].get()});
    }
    std::vector<std::vector<Handle>> results = client.execute(compiled, arguments);
    ASSERT_EQ(results.size(), inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      states[i] = std::move(results[i].at(1));
      std::vector<std::byte> bytes(state.size()), zeros(input.size(), std::byte{9});
      client.download(states[i], kState, bytes.data());
      EXPECT_EQ(bytes, state);
      client.download(results[i].at(0), kOutput, zeros.data());
      EXPECT_EQ(zeros, std::vector<std::byte>(zeros.size()));
    }
  }
}

class PjrtClient : public ng::testing::PjrtStandin {
 protected:
  PjrtClient() {
    set_outputs(control);
    set_outputs(plain);
  }
};

TEST_F(PjrtClient, SendsEachVersionItsExactSizes) {
  for (const char* version : {"0.55", "0.81", "0.104", "0.114"}) {
    ::setenv(kNeuronVariable, version, 1);
    use(kNeuronLike, 1);
    use(kNeuronLike, 3);
    EXPECT_EQ(control.last_devices, 3);
    EXPECT_EQ(control.calls[kCompiledMemory.slot], 2) << "also beyond the end that 0.55 gives";
    control.calls[kCompiledMemory.slot] = 0;
    expect_clean(version);
  }
}

// The header's changelog: where a struct grew, and to what.
TEST(PjrtSizes, FollowTheHeadersHistory) {
  const auto grows = [](const auto& size_at, std::vector<std::pair<int, size_t>> steps) {
    for (const auto& [minor, size] : steps) {
      EXPECT_EQ(size_at(minor), size) << minor;
      if (minor > kOldestMinor) {
        EXPECT_LT(size_at(minor - 1), size) << minor;
      }
    }
    EXPECT_EQ(size_at(kNewestMinor), steps.back().second);
  };
  grows(size_in<ClientCreateArgs>, {{55, 72}, {61, 88}});
  grows(size_in<ExecuteOptions>,
        {{55, 72}, {64, 80}, {76, 88}, {78, 112}, {97, 120}, {108, 121}, {112, 144}});
  grows(size_in<CompiledMemoryArgs>, {{55, 104}, {72, 112}, {90, 120}, {104, 144}});
  grows(size_in<DeviceMemoryArgs>, {{55, 185}, {113, 201}});
  grows(size_in<FromHostArgs>, {{55, 120}});
}

TEST_F(PjrtClient, IsRefusedWithAnotherVersionsSizes) {
  for (const auto& [asked, spoken, grown] :
       {std::tuple("0.55", 81, "struct 4 has size 24, expected 32"),
        std::tuple("0.81", 104, "struct 96 has size 112, expected 144"),
        std::tuple("0.104", 114, "struct 34 has size 185, expected 201")}) {
    ::setenv(kNeuronVariable, asked, 1);
    control.version = spoken;
    EXPECT_THAT(device_error([] { use(kNeuronLike, 1); }), HasSubstr(grown)) << asked;
    expect_clean(asked);
  }
}

TEST_F(PjrtClient, ServesPluginsThatTakeLargerStructs) {
  for (const int version : {55, 81, 104, 114}) {
    plain.version = version;
    plain.lenient = true;
    use(plain_plugin(), 2);
    EXPECT_EQ(plain.calls[kClientCreate.slot], 1);
    plain.calls[kClientCreate.slot] = 0;
  }
  plain.lenient = false;
  use(plain_plugin(), 2);
  plain.version = 81;
  EXPECT_THAT(device_error([] { use(plain_plugin(), 2); }),
              HasSubstr("struct 34 has size 201, expected 185"));
}

TEST_F(PjrtClient, AsksForDevicesOnlyWhereTheOptionIsKnown) {
  plain.version = 114;
  EXPECT_NO_THROW(Client(plain_plugin(), 7));
  plain.knows_device_count = false;  // it has 4 then
  EXPECT_NO_THROW(Client(plain_plugin(), 4));
  EXPECT_THAT(device_error([] { Client(plain_plugin(), 7); }),
              HasSubstr("it has 4 devices, 7 are needed"));
  control.knows_device_count = false;
  EXPECT_NO_THROW(Client(kNeuronLike, 4)) << "never asked for";
  EXPECT_EQ(control.calls[kClientCreate.slot], 1);
}

// Each function fails at each of its calls.
TEST_F(PjrtClient, NamesTheFunctionThatFailedAndLeaksNothing) {
  use(kNeuronLike, 2);
  const standin::Control well = control;
  int failures = 0;
  for (int slot = kErrorGetCode.slot; slot < standin::kFunctions; ++slot) {
    for (int call = 1; call <= well.calls[slot]; ++call) {
      reset();
      set_outputs(control);
      control.failing = slot;
      control.failing_call = call;
      control.failing_message = "the planted message";
      const std::string when = fmt::format("call {} of function {}", call, slot);
      if (slot == kEventDestroy.slot || slot == kClientDestroy.slot ||
          slot == kExecutableDestroy.slot || slot == kLoadedDestroy.slot ||
          slot == kBufferDestroy.slot) {
        EXPECT_NO_THROW(use(kNeuronLike, 2)) << when;
      } else {
        const std::string error = device_error([] { use(kNeuronLike, 2); });
        EXPECT_THAT(error, HasSubstr(": the planted message")) << when;
        EXPECT_THAT(error, HasSubstr("standin_neuronpjrt.so: PJRT_")) << when;
        ++failures;
      }
      expect_clean(when);
    }
  }
  EXPECT_GT(failures, 30);
}

TEST_F(PjrtClient, SaysWhichFunctionFailed) {
  for (const auto& [slot, name] :
       {std::pair(kClientCreate.slot, kClientCreate.name), std::pair(kCompile.slot, kCompile.name),
        std::pair(kFromHost.slot, kFromHost.name), std::pair(kExecute.slot, kExecute.name),
        std::pair(kToHost.slot, kToHost.name), std::pair(kEventAwait.slot, kEventAwait.name)}) {
    reset();
    set_outputs(control);
    control.failing = slot;
    control.failing_message = "broken";
    EXPECT_THAT(device_error([] { use(kNeuronLike, 1); }),
                HasSubstr(fmt::format("{}: broken", name)));
  }
}

TEST_F(PjrtClient, NamesMemoryWhereItIsExhausted) {
  control.failing = kFromHost.slot;
  control.failing_code = kResourceExhausted;
  control.failing_message = "3 GB";
  EXPECT_THAT(device_error([] { use(kNeuronLike, 1); }),
              HasSubstr("PJRT_Client_BufferFromHostBuffer: the device is out of memory: 3 GB"));
}

TEST_F(PjrtClient, ReadsAnErrorWhoseCodeCannotBeRead) {
  plain.version = 114;
  plain.knows_device_count = false;
  plain.failing = kErrorGetCode.slot;
  EXPECT_NO_THROW(Client(plain_plugin(), 1));
  EXPECT_EQ(plain.calls[kErrorGetCode.slot], 1);
}

TEST_F(PjrtClient, DoesWithoutStatistics) {
  {
    const Client client(kNeuronLike, 1);
    EXPECT_EQ(client.memory(0)->in_use, 5);
    EXPECT_EQ(client.memory(0)->limit, 7);
    EXPECT_EQ(client.memory(0)->peak, std::nullopt);
    EXPECT_EQ(client.compile("mlir", "module", 1).memory->aliases, 24);
    EXPECT_STREQ(control.last_format, "mlir");
    control.no_statistics = true;
    EXPECT_FALSE(client.memory(0).has_value());
    EXPECT_FALSE(client.compile("hlo", "module", 1).memory.has_value());
  }
  for (const int missing :
       {kDeviceMemory.slot, kCompiledMemory.slot, kOutputTypes.slot, kOutputDimensions.slot}) {
    control.missing = missing;
    use(kNeuronLike, 1);
  }
}

TEST_F(PjrtClient, ReportsOutputsOfTypesThatItDoesNotKnow) {
  control.outputs[0].type = 10;
  EXPECT_THAT(device_error([] { use(kNeuronLike, 1); }),
              HasSubstr("output 0 has PJRT's buffer type 10"));
}

}  // namespace
}  // namespace ng::pjrt
