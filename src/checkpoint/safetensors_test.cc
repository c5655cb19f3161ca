#include "checkpoint/safetensors_for_test.h"

#include <gmock/gmock.h>

#include "base/json.h"
#include "checkpoint/damage_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

std::string with_header(std::string_view header, size_t data_bytes) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  bytes += header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

StoredTensors parse(std::string_view bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "file");
}

TEST(Safetensors, GivesTypeAndPlaceOfEveryTensor) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[6,14]},)"
      R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},)"
      R"("empty":{"dtype":"I64","shape":[0,7],"data_offsets":[6,6]},)"
      R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[14,15]}}   )";
  const StoredTensors tensors = parse(with_header(header, 15));
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(tensors.at("a").type, (Type{DType::bf16, {3}}));
  EXPECT_EQ(tensors.at("a").offset, 8 + header.size());
  EXPECT_EQ(tensors.at("b").type, (Type{DType::f32, {2, 1}}));
  EXPECT_EQ(tensors.at("b").offset, 8 + header.size() + 6);
  EXPECT_EQ(tensors.at("empty").type, (Type{DType::s64, {0, 7}}));
  EXPECT_EQ(tensors.at("scalar").type, (Type{DType::u8, {}}));
  EXPECT_TRUE(tensors.at("b").strides.empty());
}

struct Refused {
  const char* header;
  size_t data_bytes;
  const char* message;
};

class SafetensorsRefusal : public testing::TestWithParam<Refused> {};

TEST_P(SafetensorsRefusal, NamesWhatIsWrong) {
  const std::string bytes = with_header(GetParam().header, GetParam().data_bytes);
  EXPECT_THAT(refusal([&] { parse(bytes); }), HasSubstr(GetParam().message));
}

#define ENTRY(dtype, shape, offsets) \
  "\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets
INSTANTIATE_TEST_SUITE_P(
    Each, SafetensorsRefusal,
    testing::Values(
        Refused{"[]", 0, "does not start with {"}, Refused{"", 0, "does not start with {"},
        Refused{" {}", 0, "does not start with {"}, Refused{"{", 0, "not valid JSON"},
        Refused{"{\"\xff\":1}", 0, "not valid JSON"}, Refused{"{}x", 0, "not valid JSON"},
        Refused{"{\"a\":1}", 0, "must be an object"},
        Refused{"{\"__metadata__\":{\"a\":1}}", 0, "must be a string"},
        Refused{"{\"__metadata__\":[]}", 0, "object of strings"},
        Refused{
            "{\"a\":{" ENTRY("F32", "[1]", "[0,4]") "},\"a\":{" ENTRY("F32", "[1]", "[4,8]") "}}",
            8, "stands twice"},
        Refused{"{\"a\":{" ENTRY("F32", "[1]", "[0,4]") ",\"x\":1}}", 4, "must be an object of"},
        Refused{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"offsets\":[0,4]}}", 4, "has no list"},
        Refused{"{\"a\":{" ENTRY("F8_E4M3", "[1]", "[0,1]") "}}", 1, "dtype 'F8_E4M3'"},
        Refused{"{\"a\":{" ENTRY("f32", "[1]", "[0,4]") "}}", 4, "dtype 'f32'"},
        Refused{"{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a string"},
        Refused{"{\"a\":{" ENTRY("F32", "[-1]", "[0,4]") "}}", 4, "integers from 0"},
        Refused{"{\"a\":{" ENTRY("F32", "[1.0]", "[0,4]") "}}", 4, "integers from 0"},
        Refused{"{\"a\":{" ENTRY("F32", "[18446744073709551615]", "[0,4]") "}}", 4, "integers"},
        Refused{"{\"a\":{" ENTRY("F32", "[99999999999999999999]", "[0,4]") "}}", 4, "integers"},
        Refused{"{\"a\":{" ENTRY("F32", "[4294967296,4294967296]", "[0,0]") "}}", 0, "impossible"},
        Refused{"{\"a\":{" ENTRY("F32", "[4611686018427387904]", "[0,0]") "}}", 0, "impossible"},
        Refused{"{\"a\":{" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}}", 4, "9 dimensions"},
        Refused{"{\"a\":{" ENTRY("F32", "[1]", "[4,0]") "}}", 4, "a begin and an end"},
        Refused{"{\"a\":{" ENTRY("F32", "[1]", "[0]") "}}", 4, "a begin and an end"},
        Refused{"{\"a\":{" ENTRY("F32", "[2]", "[0,4]") "}}", 4, "f32[2] = 8 bytes"},
        Refused{"{\"a\":{" ENTRY("F32", "[1]", "[4,8]") "}}", 8, "begins at byte 4"},
        Refused{
            "{\"a\":{" ENTRY("F32", "[2]", "[0,8]") "},\"b\":{" ENTRY("F32", "[2]", "[4,12]") "}}",
            12, "'b' begins at byte 4 of the data, the one before ends at 8"},
        Refused{"{\"a\":{" ENTRY("F32", "[1]", "[0,4]") "}}", 5, "need 4 bytes of data, 5 are"},
        Refused{"{\"a\":{" ENTRY("F32", "[2]", "[0,8]") "}}", 4, "need 8 bytes of data, 4 are"}));

TEST(Safetensors, RefusesHeadersLargerThanTheFile) {
  EXPECT_THAT(refusal([] { parse("1234567"); }), HasSubstr("7 bytes"));
  EXPECT_THAT(refusal([] { parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)); }),
              HasSubstr("the header has 3 bytes, the file 10"));
  EXPECT_THAT(refusal([] { parse(std::string(8, '\xff') + "{}"); }), HasSubstr("its header would"));
}

TEST(Safetensors, ReadsAsManyTensorsAsTheLimitAndNoneMore) {
  for (const size_t count : {kMaxTensors, kMaxTensors + 1}) {
    std::string header = "{";
    for (size_t i = 0; i < count; ++i) {
      header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                            i == 0 ? "" : ",", i);
    }
    const std::string bytes = with_header(header + "}", 0);
    if (count == kMaxTensors) {
      EXPECT_EQ(parse(bytes).size(), count);
    } else {
      EXPECT_THAT(refusal([&] { parse(bytes); }), HasSubstr("100001 tensors"));
    }
  }
}

TEST(Safetensors, WritesWhatItReads) {
  const TemporaryDirectory directory;
  std::map<std::string, Tensor> tensors;
  for (DType dtype : kDTypes) {
    const std::vector<std::byte> bytes(6 * byte_size(dtype), std::byte{5});
    tensors.emplace(name(dtype), Tensor::own({dtype, {2, 3}}, bytes));
  }
  tensors.emplace("none", Tensor::own({DType::f32, {0}}, {}));
  write_safetensors(directory.path / "x", tensors);
  const auto again = read_safetensors(directory.path / "x");
  ASSERT_EQ(again.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(again.at(name).type, tensor.type) << name;
    EXPECT_TRUE(std::ranges::equal(again.at(name).data, tensor.data)) << name;
  }
}

TEST(Safetensors, SurvivesDamage) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"bias":{"dtype":"F32","shape":[2],"data_offsets":[6,14]},)"
      R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})";
  expect_survives(with_header(header, 14), 30'000, [](std::span<const std::byte> bytes) {
    for (const auto& [name, stored] : parse_safetensors(bytes, "file")) {
      const auto size = static_cast<uint64_t>(byte_count(stored.type));
      ASSERT_TRUE(stored.offset <= bytes.size() && size <= bytes.size() - stored.offset);
    }
  });
}

}  // namespace
}  // namespace ng
