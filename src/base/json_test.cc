// JSON from strangers is read within its bounds or refused by name.
#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace ng {
namespace {

using testing::HasSubstr;

// The message with which `text` is refused; "" when it is read.
std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "request", limits);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::User);
    return error.what();
  }
}

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

TEST(Json, ReadsDepth32AndRefuses33) {
  EXPECT_EQ(refusal(nested(32)), "");
  EXPECT_THAT(refusal(nested(33)), HasSubstr("deeper than 32"));
  std::string objects = "1";
  for (int i = 0; i < 33; ++i) objects = R"({"a":)" + objects + "}";
  EXPECT_THAT(refusal(objects), HasSubstr("deeper than 32"));
}

TEST(Json, RefusesAMillionOpenBrackets) {
  EXPECT_THAT(refusal(std::string(1 << 20, '[')), HasSubstr("deeper"));
}

TEST(Json, ReadsItsLimitOfBytesAndRefusesOneMore) {
  const JsonLimits limits = {.bytes = 10};
  EXPECT_EQ(refusal(R"("12345678")", limits), "");
  EXPECT_THAT(refusal(R"("123456789")", limits), HasSubstr("11 bytes of JSON, at most 10"));
  const std::string line = "[" + std::string((16 << 20) - 2, ' ') + "]";
  EXPECT_EQ(refusal(line), "");
  EXPECT_THAT(refusal(line + " "), HasSubstr("16777217 bytes of JSON, at most 16777216 are read"));
}

TEST(Json, RefusesAKeyThatStandsTwiceInOneObject) {
  EXPECT_THAT(refusal(R"({"a":1,"b":{"c":1},"a":2})"), HasSubstr("\"a\" stands twice"));
  EXPECT_THAT(refusal(R"([{"x":{"c":1,"c":1}}])"), HasSubstr("\"c\" stands twice"));
  EXPECT_THAT(refusal(R"({"\u0061":1,"a":2})"), HasSubstr("stands twice"));  // the same key
  EXPECT_EQ(refusal(R"({"a":{"a":{"b":1}},"b":[{"a":1},{"a":2}]})"), "");
}

TEST(Json, NamesTheSourceAndThePlaceOfASyntaxError) {
  const std::string message = refusal(R"({"a":1,})");
  EXPECT_THAT(message, HasSubstr("request: is not valid JSON"));
  EXPECT_THAT(message, HasSubstr("column 8"));
  EXPECT_NE(refusal(""), "");
  EXPECT_NE(refusal("1 2"), "");
  EXPECT_NE(refusal("NaN"), "");
  EXPECT_NE(refusal("1e999"), "");
}

TEST(Json, RefusesInvalidUtf8WithAMessageThatIsValid) {
  const std::string message = refusal("\"\xff\xc0\"");
  EXPECT_NE(message, "");
  EXPECT_NO_THROW((void)Json(message).dump()) << message;
}

// The message with which a typed access is refused; "" when it is not.
template <class Access>
std::string wrong_type(Access access) {
  try {
    access(
        parse_json(R"({"i":5,"f":1.5,"s":"x","b":true,"n":null,"big":18446744073709551615})", "t"));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Json, TypedAccessTakesTheTypeOrTheFallbackOfAnAbsentKey) {
  const Json object = parse_json(R"({"i":-5,"f":1.5,"s":"x","b":true,"n":null})", "t");
  EXPECT_EQ(json_int(object, "i", 1, "t"), -5);
  EXPECT_EQ(json_int(object, "absent", 1, "t"), 1);
  EXPECT_EQ(json_int(object, "n", 1, "t"), 1);
  EXPECT_EQ(json_number(object, "f", 1, "t"), 1.5);
  EXPECT_EQ(json_number(object, "i", 1, "t"), -5);
  EXPECT_TRUE(json_bool(object, "b", false, "t"));
  EXPECT_EQ(json_string(object, "s", "y", "t"), "x");
  EXPECT_EQ(json_string(object, "absent", "y", "t"), "y");
}

TEST(Json, TypedAccessRefusesAnotherType) {
  EXPECT_EQ(wrong_type([](const Json& o) { json_int(o, "f", 0, "t"); }),
            "t: \"f\" must be an integer, not 1.5");
  EXPECT_THAT(wrong_type([](const Json& o) { json_int(o, "big", 0, "t"); }), HasSubstr("integer"));
  EXPECT_THAT(wrong_type([](const Json& o) { json_int(o, "b", 0, "t"); }), HasSubstr("not true"));
  EXPECT_THAT(wrong_type([](const Json& o) { json_number(o, "s", 0, "t"); }), HasSubstr("number"));
  EXPECT_THAT(wrong_type([](const Json& o) { json_bool(o, "i", false, "t"); }), HasSubstr("not 5"));
  EXPECT_THAT(wrong_type([](const Json& o) { json_string(o, "i", "", "t"); }), HasSubstr("string"));
}

TEST(Json, MutatedTextIsReadOrRefused) {
  const std::string valid =
      R"({"input_ids":[[1,2,-3],[4e2]],"n":null,"t":"\u00e9\ud83d\ude00 字","deep":[[[{"a":0.5}]]]})";
  ASSERT_EQ(refusal(valid), "");
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = valid;
    for (uint32_t flips = 1 + random() % 3; flips > 0; --flips) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    if (round % 4 == 0) text.resize(random() % text.size());
    refused += refusal(text).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 5000);
  EXPECT_LT(refused, 20000);
}

}  // namespace
}  // namespace ng
