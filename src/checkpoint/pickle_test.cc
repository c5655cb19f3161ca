#include "checkpoint/pickle.h"

#include <gmock/gmock.h>

#include "checkpoint/damage_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::string_literals;

std::map<std::string, PickledTensor> parse(std::string_view pickle) {
  return parse_pickle(std::as_bytes(std::span(pickle)), "file");
}

std::string text(std::string_view value) {  // BINUNICODE of up to 255 bytes
  return "X"s + static_cast<char>(value.size()) + "\0\0\0"s + std::string(value);
}

const std::string kStorage =
    "(" + text("storage") + "ctorch\nHalfStorage\n" + text("7") + text("cpu") + "K\x0ctQ";
// offset 2, size (3, 2), strides (2, 1), requires_grad, hooks
const std::string kTensor =
    "ctorch._utils\n_rebuild_tensor_v2\n(" + kStorage + "K\2K\3K\2\x86K\2K\1\x86\x89}tR";
const std::string kDict = "\x80\2ccollections\nOrderedDict\n)R";

TEST(Pickle, ReadsATensorAsTorchWritesIt) {
  const auto tensors =
      parse(kDict + "q\1(" + text("w") + kTensor + "u}q\2" + text("_metadata") + "}sb.");
  ASSERT_EQ(tensors.size(), 1U);
  const PickledTensor& tensor = tensors.at("w");
  EXPECT_EQ(tensor.dtype, DType::f16);
  EXPECT_EQ(tensor.storage, "7");
  EXPECT_EQ(tensor.numel, 12);
  EXPECT_EQ(tensor.offset, 2);
  EXPECT_THAT(tensor.size, ElementsAre(3, 2));
  EXPECT_THAT(tensor.stride, ElementsAre(2, 1));
}

TEST(Pickle, ReadsIntegersOfEveryLength) {
  const auto offset = [](const std::string& integer) {
    const std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n(" + kStorage + integer;
    return parse("}" + text("w") + rebuild + "))tRs.").at("w").offset;
  };
  EXPECT_EQ(offset("K\xff"), 255);
  EXPECT_EQ(offset("M\xff\xff"), 65535);
  EXPECT_EQ(offset("J\xff\xff\xff\x7f"), INT32_MAX);
  EXPECT_EQ(offset("\x8a\5\0\0\0\0\1"s), int64_t{1} << 32);
  EXPECT_EQ(offset("\x8a\0"s), 0);
  EXPECT_THAT(refusal([&] { offset("J\xff\xff\xff\xff"); }), HasSubstr("impossible offset"));
  EXPECT_THAT(refusal([&] { offset("\x8a\1\xff"s); }), HasSubstr("impossible offset"));
  EXPECT_THAT(refusal([&] { offset("\x8a\x09" + std::string(9, '\1')); }), HasSubstr("64 bits"));
}

TEST(Pickle, MemoAndMarksWorkAsInPython) {
  // The name is remembered, used twice over, and the tensor is a parameter.
  const auto tensors = parse("}(" + text("w") + "q\5ctorch._utils\n_rebuild_parameter\n(" +
                             kTensor + "\x88}tRr\1\0\0\1"s + text("v") + "j\1\0\0\1"s + "u.");
  EXPECT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors.at("v").storage, tensors.at("w").storage);
}

TEST(Pickle, LooksInsideOneWrapper) {
  const std::string inner = "}" + text("w") + kTensor + "s";
  EXPECT_EQ(parse("}" + text("model") + inner + "s.").size(), 1U);
  EXPECT_EQ(
      parse("}(" + text("step") + "G\0\0\0\0\0\0\0\0"s + text("state_dict") + inner + "u.").size(),
      1U);
  // A dict that holds itself is no endless search.
  EXPECT_THAT(refusal([] { parse("}q\1" + text("model") + "h\1s."); }),
              HasSubstr("'model' is not a tensor"));
}

TEST(Pickle, RefusesGlobalsByName) {
  const auto refused = [](const std::string& call) {
    return refusal([&] { parse("\x80\2" + call); });
  };
  EXPECT_THAT(refused("cposix\nsystem\n" + text("echo") + "\x85R."), HasSubstr("'posix.system'"));
  EXPECT_THAT(refused("c__builtin__\neval\n."), HasSubstr("'__builtin__.eval'"));
  EXPECT_THAT(refused("ccollections\nOrderedDict.__init__\n."), HasSubstr("OrderedDict.__init__"));
  EXPECT_THAT(refused("ctorch\n_utils._rebuild_tensor_v2\n."), HasSubstr("'torch._utils._re"));
  EXPECT_THAT(refused("cnumpy\n\x1b[31m\n."), HasSubstr("'numpy.\\x1b[31m'"));
}

TEST(Pickle, RefusesOpcodesThatWeightsDoNotNeed) {
  for (const char op :
       "ioPVIFLSTB\x82\x83\x84\x8b\x8c\x8d\x8e\x90\x91\x92\x93\x94\x95\x96\x97\x98"
       "012dlgp"s) {
    EXPECT_THAT(refusal([&] { parse("}"s + op + "\1\1\1\1\1\1\1\1\1\1\1\1."); }),
                HasSubstr(fmt::format("opcode 0x{:02x}", static_cast<uint8_t>(op))));
  }
  EXPECT_THAT(refusal([] { parse("\x80\4}."); }), HasSubstr("protocol 2"));
}

struct Refused {
  std::string pickle;
  const char* message;
};
class PickleRefusal : public testing::TestWithParam<Refused> {};

TEST_P(PickleRefusal, SaysWhy) {
  EXPECT_THAT(refusal([] { parse(GetParam().pickle); }), HasSubstr(GetParam().message));
}

const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
INSTANTIATE_TEST_SUITE_P(
    Each, PickleRefusal,
    testing::Values(
        Refused{"", "ends too early"}, Refused{"}", "ends too early"},
        Refused{"X\xff\xff\xff\xff", "ends too early"}, Refused{"ctorch", "ends too early"},
        Refused{"K\1.", "no dict of tensors"}, Refused{".", "other than one object"},
        Refused{"}}.", "other than one object"}, Refused{"(}.", "other than one object"},
        Refused{"s", "empty stack"}, Refused{"R", "empty stack"}, Refused{"K\1(R", "empty stack"},
        Refused{"q\1", "empty stack"}, Refused{"t", "no mark"}, Refused{"u", "no mark"},
        Refused{"h\1", "never remembered"}, Refused{std::string(65, '('), "nests deeper"},
        Refused{"]K\1K\1s", "puts items into something else"}, Refused{"K\1K\1a", "something else"},
        Refused{"}(K\1u", "a key without a value"}, Refused{"K\1)R", "calls what is no function"},
        Refused{"ctorch\nFloatStorage\n)R", "calls a storage type"},
        Refused{"ccollections\nOrderedDict\n]\x85R", "OrderedDict with arguments"},
        Refused{"ccollections\nOrderedDict\n]R", "calls what is no function"},
        Refused{"ctorch._utils\n_rebuild_parameter\n)R", "a parameter without a tensor"},
        Refused{kRebuild + ")R", "a tensor without a storage"},
        Refused{kRebuild + "(K\1K\0))tR"s, "a tensor without a storage"},
        Refused{")Q", "five fields"}, Refused{"]Q", "five fields"},
        Refused{"(" + text("module") + "ctorch\nHalfStorage\n" + text("7") + text("cpu") + "K\1tQ",
                "wrong fields"},
        Refused{"(" + text("storage") + text("x") + text("7") + text("cpu") + "K\1tQ",
                "wrong fields"},
        Refused{"(" + text("storage") + "ctorch\nHalfStorage\nK\1" + text("cpu") + "K\1tQ",
                "wrong fields"},
        Refused{"(" + text("storage") + "ctorch\nHalfStorage\n" + text("7") + text("cpu") +
                    "J\xff\xff\xff\xfftQ",
                "wrong fields"},
        Refused{"]}b", "a state to something"}, Refused{"}" + text("a") + "K\1s.", "not a tensor"},
        Refused{"}K\1" + kTensor + "s.", "not a tensor's name"},
        Refused{"}" + text("") + kTensor + "s.", "not a tensor's name"},
        Refused{"}" + text("a\nb") + kTensor + "s.", "not a tensor's name"},
        Refused{"}(" + text("a") + kTensor + text("a") + kTensor + "u.", "'a' stands twice"},
        Refused{"}" + text("a") + kRebuild + "(" + kStorage + "K\0K\1K\1tRs."s, "is no size"},
        Refused{"}" + text("a") + kRebuild + "(" + kStorage + "K\0N\x85)tRs."s, "no integer"},
        Refused{
            "}" + text("a") + kRebuild + "(" + kStorage + "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t)tRs."s,
            "is no size"},
        Refused{"}" + text("a") + kRebuild + "(" + kStorage + "N))tRs.", "impossible offset"},
        Refused{"}" + text("a") + kRebuild + "(" + kStorage + "K\0K\1\x85)tRs."s,
                "impossible offset or size"}));

TEST(Pickle, BoundsStackAndObjects) {
  EXPECT_THAT(refusal([] { parse(std::string(1'000'001, 'N')); }), HasSubstr("on the stack"));
  std::string objects = "]";
  for (int i = 0; i < 4'000'000; ++i) objects += "Na";
  EXPECT_THAT(refusal([&] { parse(objects); }), HasSubstr("more objects"));
}

TEST(Pickle, ReadsAsManyTensorsAsTheLimitAndNoneMore) {
  for (const size_t count : {kMaxTensors, kMaxTensors + 1}) {
    std::string pickle = "}(" + text("first") + kTensor + "q\7";
    for (size_t i = 1; i < count; ++i) pickle += text(std::to_string(i)) + "h\7";
    pickle += "u.";
    if (count == kMaxTensors) {
      EXPECT_EQ(parse(pickle).size(), count);
    } else {
      EXPECT_THAT(refusal([&] { parse(pickle); }), HasSubstr("100001 tensors, at most 100000"));
    }
  }
}

TEST(Pickle, SurvivesDamage) {
  const std::string valid = kDict + "q\1(" + text("w") + kTensor + "q\2" + text("b") +
                            "ctorch._utils\n_rebuild_parameter\n(" + kTensor + "\x88}tR" +
                            text("c") + "h\2u}" + text("_metadata") + "}sb.";
  ASSERT_EQ(parse(valid).size(), 3U);
  expect_survives(valid, 60'000,
                  [](std::span<const std::byte> bytes) { parse_pickle(bytes, "file"); });
}

}  // namespace
}  // namespace ng
