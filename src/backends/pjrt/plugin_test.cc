#include "backends/pjrt/plugin.h"

#include <cmath>
#include <fstream>
#include <set>

#include "backends/pjrt/standin_for_test.h"
#include "base/refusal_for_test.h"

namespace ng::pjrt {
namespace {

using ng::testing::device_error;
using ng::testing::kNeuronLike;
using ng::testing::kNeuronVariable;
using ng::testing::plain_plugin;
using ::testing::HasSubstr;
class PjrtPlugin : public ng::testing::PjrtStandin {};

std::string open_error(const std::string& library) {
  return device_error([&] { const Plugin plugin(library); });
}

TEST_F(PjrtPlugin, SaysWhatIsWrongWithAFileThatIsNoPlugin) {
  EXPECT_THAT(open_error("/nowhere/libpjrt.so"),
              HasSubstr("/nowhere/libpjrt.so: there is no such"));
  EXPECT_THAT(open_error(""), HasSubstr("there is no such file"));
  EXPECT_THAT(open_error(::testing::TempDir()), HasSubstr("cannot be loaded"));
  const std::string text = ::testing::TempDir() + "no_library.so";
  std::ofstream(text) << "text";
  EXPECT_THAT(open_error(text), HasSubstr("cannot be loaded"));
  Dl_info math = {};
  ASSERT_NE(::dladdr(reinterpret_cast<void*>(static_cast<double (*)(double)>(std::cbrt)), &math),
            0);
  const std::string libm = std::filesystem::exists("/lib/x86_64-linux-gnu/libm.so.6")
                               ? "/lib/x86_64-linux-gnu/libm.so.6"
                               : math.dli_fname;
  EXPECT_THAT(open_error(libm), HasSubstr("it has no GetPjrtApi"));
}

TEST_F(PjrtPlugin, RefusesVersionsThatItCannotSpeak) {
  plain.lenient = true;
  for (const int version : {-1, 0, 29, 54, 56}) {
    plain.reported = version;
    if (version == 0) continue;
    EXPECT_THAT(open_error(plain_plugin()), HasSubstr(fmt::format("it speaks PJRT 0.{}", version)));
  }
  for (const int version : {55, 57, 81, 115, 400}) {
    plain.reported = version;
    EXPECT_THAT(Plugin(plain_plugin()).description(), HasSubstr(fmt::format("0.{}", version)));
  }
}

TEST_F(PjrtPlugin, NamesTheFunctionThatIsMissing) {
  const std::set<int> optional = {kPluginAttributes.slot, kDeviceMemory.slot, kOutputTypes.slot,
                                  kOutputDimensions.slot, kCompiledMemory.slot};
  int missed = 0;
  for (int slot = 0; slot < standin::kFunctions; ++slot) {
    control.missing = slot;
    try {
      const Plugin plugin(kNeuronLike);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::Device);
      EXPECT_THAT(error.what(), HasSubstr("it lacks PJRT_"));
      EXPECT_FALSE(optional.contains(slot)) << error.what();
      ++missed;
    }
  }
  EXPECT_EQ(missed, 21);
  control.missing = kExecute.slot;
  EXPECT_THAT(open_error(kNeuronLike), HasSubstr("it lacks PJRT_LoadedExecutable_Execute"));
}

TEST_F(PjrtPlugin, AsksNeuronsPluginForTheVersionThatItSpeaks) {
  ::setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "1", 1);
  EXPECT_THAT(Plugin(kNeuronLike).description(), HasSubstr("PJRT 0.104"));
  EXPECT_STREQ(std::getenv(kNeuronVariable), "0.104");
  EXPECT_STREQ(std::getenv("NEURON_RT_STOCHASTIC_ROUNDING_EN"), "0");
  for (const char* version : {"0.55", "0.81", "0.104", "0.114"}) {
    ::setenv(kNeuronVariable, version, 1);
    EXPECT_THAT(Plugin(kNeuronLike).description(), HasSubstr(version)) << "respected";
    EXPECT_STREQ(std::getenv(kNeuronVariable), version);
  }
  for (const char* version : {"", "81", "0.", "0.54", "0.56", "0.115", "1.81", "0.81 ", "0.-1"}) {
    ::setenv(kNeuronVariable, version, 1);
    EXPECT_THAT(
        refusal([] { const Plugin plugin(kNeuronLike); }),
        HasSubstr(fmt::format("{} is \"{}\": it must be 0.55 to 0.114", kNeuronVariable, version)));
  }
}

// An older plugin of Neuron's does not know the version that was asked for.
TEST_F(PjrtPlugin, SpeaksTheOlderOfTwoVersionsWithNeuronsPlugin) {
  control.version = 81;
  EXPECT_THAT(Plugin(kNeuronLike).description(), HasSubstr("PJRT 0.81"));
}

TEST_F(PjrtPlugin, SendsOthersTheNewestSizes) {
  for (const int version : {55, 81, 104, 114}) {
    plain.version = version;
    plain.lenient = true;
    EXPECT_NO_THROW(Plugin{plain_plugin()}) << version;
  }
  EXPECT_EQ(std::getenv(kNeuronVariable), nullptr);
}

TEST_F(PjrtPlugin, IsInitialisedOnceAProcess) {
  Plugin first{kNeuronLike};
  control.same_table = true;
  Plugin second{kNeuronLike}, third{kNeuronLike};
  EXPECT_EQ(control.calls[kPluginInitialize.slot], 1);
}

TEST_F(PjrtPlugin, TakesAttributesAsTheyCome) {
  EXPECT_THAT(Plugin(kNeuronLike).description(), HasSubstr("StableHLO 1.16.2"));
  control.short_attributes = true;  // seen where the header says 32
  EXPECT_THAT(Plugin(kNeuronLike).description(), HasSubstr("StableHLO 1.16.2"));
  control.null_attributes = true;
  EXPECT_EQ(Plugin(kNeuronLike).description(), "PJRT 0.104");
  control.missing = kPluginAttributes.slot;
  EXPECT_EQ(Plugin(kNeuronLike).description(), "PJRT 0.104");
}

TEST_F(PjrtPlugin, LimitsWhatAPluginMaySay) {
  const std::string message = "a\nb\x01" + std::string(5000, 'x');
  control.failing = kPluginInitialize.slot;
  control.failing_message = message.c_str();
  const std::string error = open_error(kNeuronLike);
  EXPECT_THAT(error, HasSubstr("PJRT_Plugin_Initialize: a b\\x01xxx"));
  EXPECT_LT(error.size(), 1600);
}

TEST_F(PjrtPlugin, KeepsXlaQuietUnlessToldOtherwise) {
  ::unsetenv("TF_CPP_MIN_LOG_LEVEL");
  const Plugin quiet(kNeuronLike);
  EXPECT_STREQ(std::getenv("TF_CPP_MIN_LOG_LEVEL"), "2");
  ::setenv("TF_CPP_MIN_LOG_LEVEL", "0", 1);
  const Plugin loud(kNeuronLike);
  EXPECT_STREQ(std::getenv("TF_CPP_MIN_LOG_LEVEL"), "0");
  ::unsetenv("TF_CPP_MIN_LOG_LEVEL");
}

}  // namespace
}  // namespace ng::pjrt
