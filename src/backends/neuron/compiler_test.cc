#include "backends/neuron/compiler.h"

#include <gmock/gmock.h>
#include <test_paths.h>

#include "base/process.h"
#include "checkpoint/damage_for_test.h"

namespace ng {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Path put_script(const Path& path, const std::string& body) {
  put_file(path, "#!/bin/sh\n" + body);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

std::string line(const char* target, const char* version, NeuronPhase phase, int lnc = 0,
                 const char* extra = "") {
  NeuronFlags flags;
  flags.target = &find_neuron_target(target);
  flags.version = *parse_neuron_version(version);
  flags.lnc = lnc;
  flags.extra = split_words(extra, "--compiler-args");
  const auto words = compiler_flags(flags, phase);
  return shell_quoted(command_words("/opt/neuronx-cc", "m.pb", "m.neff", words));
}

TEST(NeuronCompiler, FlagsOfEveryTargetAndVersion) {
  const std::string ends = " --verbose 35 --output m.neff --logfile m.log";
  const auto starts = [](const std::string& target) {
    return "/opt/neuronx-cc compile m.pb --framework XLA --target " + target +
           " --model-type transformer --auto-cast none ";
  };
  for (const char* target : {"inf2", "trn1"}) {
    for (const char* version : {"2.21.33363.0", "2.26.6360.0", "2.27.5334.0+abc", "3.1.0"}) {
      EXPECT_EQ(line(target, version, NeuronPhase::encode),
                starts(target) + "-O1 --enable-saturate-infinity" + ends);
      EXPECT_EQ(line(target, version, NeuronPhase::prefill, 1),
                starts(target) + "-O1 --enable-saturate-infinity" + ends);
      EXPECT_EQ(line(target, version, NeuronPhase::decode),
                starts(target) + "-O2 --enable-saturate-infinity" + ends);
    }
  }
  const std::string integers = " --native-int64=disabled --implicit-integer-downcast=all";
  EXPECT_EQ(line("trn2", "2.26.6360.0", NeuronPhase::encode),
            starts("trn2") + "-O1 --enable-saturate-infinity --lnc 2" + ends);
  EXPECT_EQ(line("trn2", "2.27.5334.0", NeuronPhase::encode),
            starts("trn2") + "-O1 --enable-saturate-infinity" + integers + " --lnc 2" + ends);
  EXPECT_EQ(line("trn2", "3.0.0", NeuronPhase::decode, 1),
            starts("trn2") + "-O2 --enable-saturate-infinity" + integers + " --lnc 1" + ends);
}

TEST(NeuronCompiler, ExtraWordsComeBehindOurs) {
  EXPECT_THAT(
      line("inf2", "2.27.1", NeuronPhase::encode, 0, "-O3 --tensorizer-options='--a --b=1'"),
      HasSubstr(" --verbose 35 -O3 '--tensorizer-options=--a --b=1' --output "));
  EXPECT_THAT(refusal([] { line("inf2", "2.27.1", NeuronPhase::encode, 0, "--output=x"); }),
              HasSubstr("--compiler-args: --output is set by neuroglot"));
  EXPECT_THAT(refusal([] { line("inf2", "2.27.1", NeuronPhase::encode, 2); }),
              HasSubstr("inf2 has logical cores of at most 1"));
  EXPECT_THAT(refusal([] { line("trn2", "2.27.1", NeuronPhase::encode, 3); }), HasSubstr("not 3"));
}

TEST(NeuronCompiler, VersionsAreFoundInWhatItPrints) {
  EXPECT_EQ(
      version_in("NeuronX Compiler version 2.27.5334.0+1be23f2\n\nPython version 3.10.2\n")->text,
      "2.27.5334.0+1be23f2");
  EXPECT_EQ(version_in("\n2.22.12471.0\n")->text, "2.22.12471.0");
  EXPECT_FALSE(version_in("Python version 3.10"));
  EXPECT_FALSE(version_in(""));
}

TEST(NeuronCompiler, IsFoundByPathOrInPath) {
  const TemporaryDirectory directory;
  const Path script =
      put_script(directory.path / "neuronx-cc", "echo NeuronX Compiler version 2.27.5334.0+x\n");
  EXPECT_EQ(find_neuronx_cc(script.string()).version.text, "2.27.5334.0+x");
  const std::string path = ::getenv("PATH");
  ::setenv("PATH", (directory.path.string() + ":" + path).c_str(), 1);
  EXPECT_EQ(find_neuronx_cc("").program, script);
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(find_neuronx_cc(NG_EMULATED_CC).version.text, "2.27.5334.0+emulated");
}

TEST(NeuronCompiler, MissingSaysHowToGetIt) {
  const TemporaryDirectory directory;
  put_file(directory.path / "data", "no program");
  const auto wanted = AllOf(HasSubstr("pip install 'neuronx-cc==2.*'"), HasSubstr("--emit-only"));
  EXPECT_THAT(refusal([] { find_neuronx_cc("no-such-cc"); }),
              AllOf(HasSubstr("no-such-cc: is not in $PATH"), wanted));
  EXPECT_THAT(refusal([&] { find_neuronx_cc((directory.path / "data").string()); }),
              AllOf(HasSubstr("is no program that can be run"), wanted));
  EXPECT_THAT(refusal([&] { find_neuronx_cc(directory.path.string()); }), wanted);
}

TEST(NeuronCompiler, WithoutAVersionIsADevicesError) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& body) {
    const Path script = put_script(directory.path / "cc", body);
    try {
      find_neuronx_cc(script.string());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::Device);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message("echo WRONG PACKAGE; exit 1"),
              AllOf(HasSubstr("exit code 1"), HasSubstr("WRONG PACKAGE")));
  EXPECT_THAT(message("echo hello"), HasSubstr("hello"));
  EXPECT_THAT(message("kill -9 $$"), HasSubstr("signal 9"));
}

}  // namespace
}  // namespace ng
