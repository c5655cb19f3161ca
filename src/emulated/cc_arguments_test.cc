#include "emulated/cc_arguments.h"

#include <gmock/gmock.h>
#include <test_paths.h>

#include "backends/neuron/compiler.h"
#include "base/process.h"
#include "checkpoint/damage_for_test.h"
#include "emulated/hlo_for_test.h"
#include "emulated/pseudo_neff.h"

namespace ng {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

NeuronVersion version(const char* text) { return *parse_neuron_version(text); }

CcArguments read(std::string_view words, const char* of = "2.27.1") {
  return read_cc_arguments(split_words(words, "test"), version(of));
}

TEST(CcArguments, TakeWhatIsDocumented) {
  const CcArguments given = read(
      "m.pb --framework=XLA --target trn2 -O1 -lnc 1 --output=o --logfile l --verbose 35 "
      "--implicit-integer-downcast=dot,pow --native-int64 enabled");
  EXPECT_EQ(given.module, "m.pb");
  EXPECT_EQ(given.target, "trn2");
  EXPECT_EQ(given.output, "o");
  EXPECT_EQ(given.logfile, "l");
  EXPECT_EQ(given.lnc, 1U);
  EXPECT_EQ(read("m --framework XLA --target trn2").lnc, 2U);
  EXPECT_EQ(read("m --framework XLA --target inf2").lnc, 1U);
}

TEST(CcArguments, RefuseWithTheCompilersCode) {
  const std::string good = "m --framework XLA --target inf2 ";
  for (const std::string& bad :
       {std::string("m --framework XLA"), std::string("m --target inf2"),
        std::string("--framework XLA --target inf2"), good + "other",
        std::string("m --framework TF --target inf2"),
        std::string("m --framework XLA --target inf1"), good + "--frobnicate", good + "-O4",
        good + "--lnc 2", good + "--native-int64 enabled", good + "--auto-cast",
        good + "--model-type encoder-decoder", good + "--enable-saturate-infinity=1",
        good + "--implicit-integer-downcast=add"}) {
    EXPECT_THAT(refusal([&] { read(bad); }), StartsWith("[NCC_EARG001] ")) << bad;
  }
  EXPECT_THAT(refusal([&] { read(good + "--native-int64=disabled", "2.26.9"); }),
              HasSubstr("unrecognized arguments: --native-int64"));
}

TEST(CcArguments, TakeEveryLineThatTheDriverMakes) {
  for (const char* target : {"inf2", "trn1", "trn2"}) {
    for (const char* text : {"2.20.9961.0", "2.26.6360.0", "2.27.5334.0", "3.0.1"}) {
      for (const NeuronPhase phase :
           {NeuronPhase::encode, NeuronPhase::prefill, NeuronPhase::decode}) {
        NeuronFlags flags;
        flags.target = &find_neuron_target(target);
        flags.version = version(text);
        std::vector<std::string> words =
            command_words("cc", "m.pb", "m.neff", compiler_flags(flags, phase));
        words.erase(words.begin(), words.begin() + 2);
        EXPECT_EQ(read_cc_arguments(words, flags.version).target, target);
      }
    }
  }
}

Ended run(const std::vector<std::string>& words, const Path& directory = {},
          const std::string& faults = "") {
  Command command;
  command.argv = {NG_EMULATED_CC};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.directory = directory;
  command.environment["EMULATED_NEURONX_CC"] = faults;
  return run_process(command);
}

TEST(EmulatedNeuronxCc, SaysItsVersionAndOperators) {
  const Ended ended = run({"--version"});
  EXPECT_EQ(ended.exit_code, 0);
  EXPECT_EQ(version_in(ended.output)->text, "2.27.5334.0+emulated");
  EXPECT_THAT(run({"list-operators", "--framework", "XLA"}).output, HasSubstr("\nDotGeneral\n"));
  EXPECT_EQ(run({}).exit_code, 70);
  EXPECT_EQ(run({"list-operators", "--framework", "TF"}).exit_code, 70);
}

TEST(EmulatedNeuronxCc, WrapsAModuleAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string hlo = HloForTest().bytes();
  put_file(directory.path / "m.pb", hlo);
  const Ended ended = run({"compile", "m.pb", "--framework", "XLA", "--target", "trn2", "--output",
                           "m.neff", "--logfile", "m.log"},
                          directory.path);
  EXPECT_EQ(ended.exit_code, 0) << ended.output;
  const std::string neff = read_file(directory.path / "m.neff", 1 << 20);
  EXPECT_EQ(hlo_of(std::as_bytes(std::span(neff)), "test"), hlo);
  const NeffHeader header = read_neff_header(std::as_bytes(std::span(neff)), "test");
  EXPECT_TRUE(is_emulated(header));
  EXPECT_EQ(header.lnc, 2U);
  EXPECT_EQ(header.hash, sha256(hlo));
  EXPECT_EQ(compiler_of(header)->text, "2.27.5334.0+emulated");
  EXPECT_EQ(read_file(directory.path / "m.log", 1000), "Compiler status PASS\n");
}

TEST(EmulatedNeuronxCc, RefusesAModuleThatBreaksARule) {
  const TemporaryDirectory directory;
  HloForTest module;
  module.find("reduce").set_opcode("sort");
  put_file(directory.path / "m.pb", module.bytes());
  const std::vector<std::string> words = {"compile", "m.pb",     "--framework",
                                          "XLA",     "--target", "inf2"};
  const Ended ended = run(words, directory.path);
  EXPECT_EQ(ended.exit_code, 70);
  EXPECT_THAT(ended.output, HasSubstr("[ERROR] [NCC_EVRF029] reduce.19"));
  EXPECT_FALSE(std::filesystem::exists(directory.path / "file.neff"));
  EXPECT_EQ(run({"compile", "m.pb", "--framework", "XLA"}, directory.path).exit_code, 70);
}

TEST(EmulatedNeuronxCc, FailsAsItIsTold) {
  const TemporaryDirectory directory;
  put_file(directory.path / "m.pb", HloForTest().bytes());
  const std::vector<std::string> words = {"compile", "m.pb", "--framework=XLA", "--target=inf2"};
  const Path neff = directory.path / "file.neff";
  EXPECT_EQ(run(words, directory.path, "exit=3").exit_code, 3);
  EXPECT_EQ(run(words, directory.path, "sleep=0.01,signal=6").signal, 6);
  EXPECT_EQ(run(words, directory.path, "nothing").exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(neff));
  EXPECT_EQ(run(words, directory.path, "garbage").exit_code, 0);
  EXPECT_EQ(read_file(neff, 100), "no NEFF");
}

}  // namespace
}  // namespace ng
