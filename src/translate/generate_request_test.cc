// Is a request read as it was meant, or refused by name?
#include "translate/generate_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "translate/beam_search.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kVocab = 60;

GenerateRequest parse(const std::string& line) {
  return parse_generate_request(parse_json(line, "line"), GenerationOptions{}, kVocab);
}

std::string error_of(const std::string& line) {
  try {
    parse(line);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::User) << error.what();
    return error.what();
  }
  return "";
}

TEST(GenerateRequest, TakesAFlatListAsOneRow) {
  const auto request = parse(R"({"input_ids": [5, 6, 2], "num_beams": 3})");
  ASSERT_THAT(request.rows, SizeIs(1));
  EXPECT_THAT(request.rows[0].input_ids, ElementsAre(5, 6, 2));
  EXPECT_THAT(request.rows[0].attention_mask, IsEmpty());
  EXPECT_THAT(request.rows[0].prompt, ElementsAre(2));
  EXPECT_EQ(request.options.num_beams, 3);
  EXPECT_EQ(request.options.max_length, 21);
}

TEST(GenerateRequest, CountsEveryIdUnlessAMaskSaysOtherwise) {
  EXPECT_THAT(parse(R"({"input_ids": [[5, 2, 1], [5, 6, 2]]})").rows[0].input_ids,
              ElementsAre(5, 2, 1));
  const auto request = parse(R"({"input_ids": [[5, 2, 1, 1], [1, 6, 2, 1], [5, 6, 7, 2]],
                                 "attention_mask": [[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]]})");
  EXPECT_THAT(request.rows[0].input_ids, ElementsAre(5, 2));
  EXPECT_THAT(request.rows[0].attention_mask, IsEmpty());
  EXPECT_THAT(request.rows[1].input_ids, ElementsAre(1, 6, 2));
  EXPECT_THAT(request.rows[1].attention_mask, ElementsAre(0, 1, 1));
  EXPECT_THAT(request.rows[2].input_ids, ElementsAre(5, 6, 7, 2));
}

TEST(GenerateRequest, PutsTheStartBeforePromptsUnlessOneBeginsWithIt) {
  const auto none = parse(R"({"input_ids": [[5], [6]], "decoder_input_ids": [[7, 8], [9, 2]]})");
  EXPECT_THAT(none.rows[0].prompt, ElementsAre(2, 7, 8));
  EXPECT_THAT(none.rows[1].prompt, ElementsAre(2, 9, 2));
  EXPECT_EQ(none.options.max_length, 23);
  const auto one = parse(R"({"input_ids": [[5], [6]], "decoder_input_ids": [[7, 8], [2, 9]]})");
  EXPECT_THAT(one.rows[0].prompt, ElementsAre(7, 8));
  EXPECT_THAT(one.rows[1].prompt, ElementsAre(2, 9));
}

TEST(GenerateRequest, ForcesOneIdForAllRowsOrOneForEach) {
  const auto all = parse(R"({"input_ids": [[5], [6]], "forced_bos_token_id": 9})");
  EXPECT_EQ(all.rows[0].forced_bos_token_id, 9);
  EXPECT_EQ(all.rows[1].forced_bos_token_id, 9);
  const auto each = parse(R"({"input_ids": [[5], [6]], "forced_bos_token_id": [9, null]})");
  EXPECT_EQ(each.rows[0].forced_bos_token_id, 9);
  EXPECT_EQ(each.rows[1].forced_bos_token_id, std::nullopt);
}

TEST(GenerateRequest, RefusesByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "JSON object"},
      {R"({})", "\"input_ids\" is missing"},
      {R"({"input_ids": []})", "\"input_ids\""},
      {R"({"input_ids": [[]]})", "row 0 is empty"},
      {R"({"input_ids": [[5], [5, 6]]})", "row 1 has 2 ids"},
      {R"({"input_ids": [[5], 5]})", "input_ids must be"},
      {R"({"input_ids": [5, [5]]})", "input_ids must be an integer"},
      {R"({"input_ids": "5"})", "\"input_ids\""},
      {R"({"input_ids": [-1]})", "input_ids is -1"},
      {R"({"input_ids": [60]})", "holds id 60; the vocabulary has 60"},
      {R"({"input_ids": [5], "attention_mask": [1, 1]})", "\"attention_mask\""},
      {R"({"input_ids": [5], "attention_mask": [[1], [1]]})", "\"attention_mask\""},
      {R"({"input_ids": [5], "attention_mask": [2]})", "must hold 0 and 1, not 2"},
      {R"({"input_ids": [5], "attention_mask": [0]})", "leaves nothing"},
      {R"({"input_ids": [5], "decoder_input_ids": []})", "\"decoder_input_ids\""},
      {R"({"input_ids": [5], "decoder_input_ids": [[2], [2]]})", "2 rows, input_ids has 1"},
      {R"({"input_ids": [5], "decoder_input_ids": [99]})", "holds id 99"},
      {R"({"input_ids": [5], "decoder_input_ids": [2, 3], "max_length": 2})", "2 ids"},
      {R"({"input_ids": [5], "forced_bos_token_id": [7, 8]})", "has 2 ids, input_ids has 1 rows"},
      {R"({"input_ids": [5], "forced_bos_token_id": [60]})", "names id 60"},
      {R"({"input_ids": [5], "forced_bos_token_id": 60})", "names id 60"},
      {R"({"input_ids": [5], "eos_token_id": 60})", "\"eos_token_id\" names id 60"},
      {R"({"input_ids": [5], "do_sample": true})", "\"do_sample\" is true"},
      {R"({"input_ids": [5], "num_beam": 2})", "unknown field \"num_beam\""},
      {R"({"input_ids": [5], "temperature": 1})", "unknown field \"temperature\""},
      {R"({"input_ids": [5], "num_beams": 65})",
       "request: \"num_beams\" is 65; it must be 1 to 64"},
      {R"({"input_ids": [5], "num_return_sequences": 2})", "more than num_beams"},
  };
  for (const auto& [line, message] : cases) {
    EXPECT_THAT(error_of(line), HasSubstr(message)) << line;
  }
  EXPECT_EQ(error_of(R"({"input_ids": [5], "do_sample": false})"), "");
}

TEST(GenerateRequest, HoldsRowsToTheLimit) {
  const auto line = [](size_t length) {
    return Json{{"input_ids", std::vector<int>(length, 5)}}.dump();
  };
  EXPECT_EQ(error_of(line(8192)), "");
  EXPECT_THAT(error_of(line(8193)), HasSubstr("a row of 8193 ids, at most 8192 fit"));
}

const std::string kValid[] = {
    R"({"input_ids":[[5,6,2],[7,2,1]],"attention_mask":[[1,1,1],[1,1,0]],"num_beams":4,)"
    R"("num_return_sequences":2,"max_length":30,"max_new_tokens":9,"min_length":3,)"
    R"("length_penalty":0.5,"early_stopping":"never","forced_bos_token_id":[9,8]})",
    R"({"input_ids":[5,6,2],"decoder_input_ids":[2,7],"min_new_tokens":2,"do_sample":false,)"
    R"("repetition_penalty":1.2,"no_repeat_ngram_size":3,"bad_words_ids":[[4],[5,6]],)"
    R"("suppress_tokens":[3,1],"forced_eos_token_id":2,"eos_token_id":[2,3]})"};

TEST(GenerateRequest, SurvivesMutatedLines) {
  std::mt19937 random(11);
  const std::string alphabet = "0123456789-+.eE[]{},:\"truefalsn \\\xC3";
  for (int round = 0; round < 20000; ++round) {
    std::string line = kValid[random() % 2];
    for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % line.size();
      switch (random() % 4) {
        case 0: line[at] = alphabet[random() % alphabet.size()]; break;
        case 1: line.erase(at, 1 + random() % 4); break;
        case 2: line.insert(at, 1, alphabet[random() % alphabet.size()]); break;
        default: line[at] = static_cast<char>(random()); break;
      }
    }
    error_of(line);
  }
}

// Whatever is accepted can be searched with.
TEST(GenerateRequest, SurvivesMutatedValues) {
  const Json values = parse_json(R"([null, true, 0, 1, 2, 3, 59, 60, -1, 2147483647, 1e300, 4.5,
      18446744073709551615, -9223372036854775808, "", "never", [], [[]], [1], [2, 2], [[2], [3]],
      [null], [null, 5], [[1, 2, 3]], {}, {"a": [1]}, 1e-320, 0.99999999999])",
                                 "values");
  std::mt19937 random(12);
  int accepted = 0;
  for (int round = 0; round < 8000; ++round) {
    Json request = Json::parse(kValid[random() % 2]);
    for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
      auto field = request.begin();
      std::advance(field, random() % request.size());
      Json& old = *field;
      const bool inside = old.is_array() && !old.empty() && random() % 2 == 0;
      (inside ? old[random() % old.size()] : old) = values[random() % values.size()];
    }
    try {
      const GenerateRequest parsed = parse_generate_request(request, GenerationOptions{}, kVocab);
      ++accepted;
      BeamSearch search(parsed.options, parsed.rows.front().prompt, kVocab);
      std::vector<float> scores(kVocab);
      for (float& score : scores) score = static_cast<float>(random() % 100);
      for (int step = 0; step < 3 && !search.done(); ++step) {
        std::vector<RowScores> rows(search.next().tokens.size(), {scores, {}, 105});
        if (search.next().k == 0) rows.clear();
        search.advance(rows);
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::User) << error.what() << request;
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_LT(accepted, 4000);
}

}  // namespace
}  // namespace ng
