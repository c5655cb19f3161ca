#include "backends/neuron/neff.h"

#include <gmock/gmock.h>

#include "backends/neuron/target.h"
#include "checkpoint/damage_for_test.h"
#include "emulated/pseudo_neff.h"

namespace ng {
namespace {

using testing::AllOf;
using testing::HasSubstr;

NeuronVersion version(const char* text) { return *parse_neuron_version(text); }

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

NeffHeader header_of(const char* build) {
  NeffHeader header;
  header.compiler_build = build;
  header.lnc = 1;
  return header;
}

TEST(Neff, AHeaderIsReadAsItWasWritten) {
  const std::string file = pseudo_neff("hlo bytes", "decode-b4", version("2.27.5334.0+abc"), 2);
  const NeffHeader header = read_neff_header(as_bytes(file), "x.neff");
  EXPECT_EQ(header.name, "decode-b4");
  EXPECT_EQ(header.compiler_build, "emulated-2.27.5334.0+abc");
  EXPECT_EQ(header.lnc, 2U);
  EXPECT_EQ(header.data_bytes, 9U);
  EXPECT_EQ(header.major, 2U);
  EXPECT_EQ(header.hash, sha256("hlo bytes"));
  EXPECT_EQ(header.uuid, header.hash.substr(0, 32));
  EXPECT_THAT(describe(header),
              AllOf(HasSubstr("compiler         emulated-2.27.5334.0+abc (a stand"),
                    HasSubstr("lnc              2\n")));
  EXPECT_EQ(hlo_of(as_bytes(file), "x.neff"), "hlo bytes");
}

TEST(Neff, FieldsStandWhereTheFactsSay) {
  std::string file(1025, '\0');
  const auto put = [&](size_t at, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i, value >>= 8) file[at + i] = static_cast<char>(value);
  };
  put(0, 3, 8), put(8, 1024, 8), put(16, 1, 8), put(24, 2, 8), put(32, 5, 8);
  file.replace(40, 6, "2.27.1");
  put(168, 7, 4), put(172, 0xAB, 1), put(204, 0xCD, 1);
  file.replace(220, 300, std::string(300, 'n'));  // a name without an end is cut at its field's
  put(476, 9, 4), put(480, 0, 64), put(544, 0x100, 8), put(552, 2, 4);
  const NeffHeader header = read_neff_header(as_bytes(file), "x");
  EXPECT_EQ(header.package_version, 3U);
  EXPECT_EQ(header.minor, 5U);
  EXPECT_EQ(header.cores, 7U);
  EXPECT_EQ(header.requested_cores, 9U);
  EXPECT_EQ(header.features, 0x100U);
  EXPECT_EQ(header.lnc, 2U);
  EXPECT_EQ(header.name.size(), 256U);
  EXPECT_EQ(header.hash.substr(0, 4), "ab00");
  EXPECT_EQ(header.uuid.substr(0, 4), "cd00");
  EXPECT_EQ(compiler_of(header)->text, "2.27.1");
}

TEST(Neff, RefusesWhatIsNone) {
  const std::string file = pseudo_neff("hlo", "n", version("2.27.1"), 1);
  const auto message = [](const std::string& bytes) {
    return refusal([&] { read_neff_header(as_bytes(bytes), "x.neff"); });
  };
  EXPECT_THAT(message(""), HasSubstr("x.neff: is no NEFF"));
  EXPECT_THAT(message(std::string(2000, 'x')), HasSubstr("its header says it has"));
  EXPECT_THAT(message(file.substr(0, file.size() - 1)), HasSubstr("is cut short"));
  std::string other = file;
  other.back() ^= 1;
  EXPECT_THAT(refusal([&] { hlo_of(as_bytes(other), "x"); }), HasSubstr("is damaged"));
}

TEST(Neff, StandsUpToDamage) {
  expect_survives(pseudo_neff("hlo", "n", version("2.27.1"), 1), 5000,
                  [](std::span<const std::byte> bytes) {
                    describe(read_neff_header(bytes, "x"));
                    hlo_of(bytes, "x");
                  });
}

TEST(Neff, OfAnotherCompilerIsRefusedSayingWhichIsOlder) {
  const auto message = [](const char* build) {
    return error_of([&] { check_neff_compiler(header_of(build), header_of("2.27.5334.0"), "x"); });
  };
  EXPECT_EQ(message("2.27.5334.0"), "");
  EXPECT_THAT(message("2.26.6360.0"),
              AllOf(HasSubstr("all with one, not 2.26.6360.0: that compiler is the older"),
                    HasSubstr("pip install --upgrade 'neuronx-cc==2.*'")));
  EXPECT_THAT(message("2.28.1.0"), HasSubstr("not 2.27.5334.0: that compiler is the older"));
}

TEST(Neff, ABuildThatIsNoVersionIsComparedAsText) {
  const NeffHeader first = header_of("release/x@6c66f4b");
  check_neff_compiler(first, first, "x");
  check_neff_runs(first, {version("2.34.10")}, "x");
  const std::string refused = refusal([&] { check_neff_compiler(header_of("\x01?"), first, "x"); });
  EXPECT_THAT(refused, AllOf(HasSubstr("\"\\x01?\", others of the bundle by \"release/x@6c66f4b\""),
                             Not(HasSubstr("older"))));
}

TEST(Neff, OfAnotherRuntimeIsRefusedSayingWhichIsOlder) {
  const auto message = [](const NeffHeader& header, const NeuronStack& stack) {
    return error_of([&] { check_neff_runs(header, stack, "x"); });
  };
  const NeuronStack stack = {version("2.34.10")};
  EXPECT_EQ(message(header_of("2.27.5334.0"), stack), "");
  EXPECT_EQ(message(header_of("2.27.5334.0"), NeuronStack{}), "");
  EXPECT_THAT(message(header_of("3.0.1"), stack),
              AllOf(HasSubstr("runtime here is 2.34.10"), HasSubstr("the runtime is the older"),
                    HasSubstr("aws-neuronx-runtime-lib")));
  EXPECT_THAT(message(header_of("1.9.1"), stack), HasSubstr("that compiler is the older"));
}

TEST(Neff, OfOtherCoresOrAStandInIsRefused) {
  NeuronStack stack;
  NeffHeader header = header_of("2.27.1");
  header.lnc = 2;
  EXPECT_THAT(refusal([&] { check_neff_runs(header, stack, "x"); }),
              HasSubstr("export NEURON_LOGICAL_NC_CONFIG=2"));
  stack.lnc = 2;
  check_neff_runs(header, stack, "x");
  EXPECT_THAT(refusal([&] { check_neff_runs(header_of("2.27.1"), stack, "x"); }),
              HasSubstr("NEURON_LOGICAL_NC_CONFIG=1"));
  const NeffHeader standin = header_of("emulated-2.27.1");
  EXPECT_THAT(refusal([&] { check_neff_runs(standin, NeuronStack{}, "x"); }),
              HasSubstr("holds no machine code"));
  NeuronStack emulated;
  emulated.emulated = true;
  check_neff_runs(standin, emulated, "x");
  EXPECT_THAT(refusal([&] { check_neff_runs(header_of("2.27.1"), emulated, "x"); }),
              HasSubstr("--device neuron"));
}

TEST(NeuronVersion, AreComparedByNumbers) {
  EXPECT_LT(version("2.9.1"), version("2.27.5334.0+abc"));
  EXPECT_EQ(version("2.27.5334.0"), version("2.27.5334.0+abc"));
  EXPECT_EQ(version("2.27.5334.0+abc rest").text, "2.27.5334.0+abc");
  for (const char* bad : {"", "x", "2", "2.", "-1.2", "99999999999.1", ".1"}) {
    EXPECT_FALSE(parse_neuron_version(bad)) << bad;
  }
}

TEST(NeuronTarget, Inf1IsRefusedNamingTheNearest) {
  EXPECT_EQ(find_neuron_target("trn2").largest_lnc, 2);
  EXPECT_THAT(refusal([] { find_neuron_target("inf1"); }),
              AllOf(HasSubstr("neuron-cc"), HasSubstr("--target inf2")));
  EXPECT_THAT(refusal([] { find_neuron_target("trn9"); }),
              HasSubstr("\"trn9\"; they are: inf2 trn1 trn2"));
}

}  // namespace
}  // namespace ng
