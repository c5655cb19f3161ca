// Does the search find what transformers finds, whatever the model hands it?
#include "translate/beam_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <test_paths.h>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <numeric>
#include <random>
#include <string>

#include "base/error.h"
#include "base/refusal_for_test.h"
#include "translate/generate_request.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;
using Model = std::function<std::vector<float>(const Ids&)>;  // decoder ids → [vocab]

uint32_t mix(uint32_t hash, uint32_t value) {
  hash = (hash ^ value) * 0x9E3779B1U;
  return hash ^ (hash >> 15);
}

// The model of scripts/make_search_goldens.py.
struct Table {
  uint32_t seed, source, vocab;
  float eos_bias = 0;
  float spread = 1;

  std::vector<float> operator()(const Ids& ids) const {
    const auto last = static_cast<uint32_t>(ids.back());
    const uint32_t before = ids.size() > 1 ? static_cast<uint32_t>(ids[ids.size() - 2]) : 0xFFFF;
    const uint32_t hash =
        mix(mix(mix(mix(seed, source), last), before), static_cast<uint32_t>(ids.size()));
    std::vector<float> logits;
    for (uint32_t id = 0; id < vocab; ++id) {
      const uint32_t value = mix(mix(hash, id + 1), 0);
      const float logit = (static_cast<float>(value >> 8) * 0x1p-21F - 4) * spread;
      logits.push_back(logit + (id == 2 ? eos_bias : 0));
    }
    return logits;
  }
};

float log_sum_exp(const std::vector<float>& logits) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return static_cast<float>(std::log(sum));
}

enum class Given { FullRows, Candidates, Either };

// One row's scores with the memory they stand in; the candidates as a backend orders them.
struct Answer {
  std::vector<float> scores;
  Ids ids;
  RowScores row;

  Answer(std::vector<float> logits, bool whole, int k) : scores(std::move(logits)) {
    row.log_sum_exp = log_sum_exp(scores);
    if (!whole) {
      const std::vector<float> by_id = scores;
      ids.resize(by_id.size());
      std::iota(ids.begin(), ids.end(), 0);
      std::ranges::stable_sort(ids, std::greater{},
                               [&](int32_t id) { return by_id[static_cast<size_t>(id)]; });
      ids.resize(static_cast<size_t>(k));
      scores.clear();
      for (const int32_t id : ids) scores.push_back(by_id[static_cast<size_t>(id)]);
    }
    row.scores = scores;
    row.ids = ids;
  }
};

// Plays the model: keeps each row's ids by tokens and parents alone, as caches would.
std::vector<Hypothesis> run(BeamSearch search, const Model& model, Given given) {
  std::vector<Ids> rows = {Ids(search.prompt().begin(), search.prompt().end() - 1)};
  while (!search.done()) {
    const StepNeeds needs = search.next();
    std::vector<Ids> next_rows;
    std::vector<Answer> answers;
    answers.reserve(needs.tokens.size());  // RowScores point into them
    for (size_t row = 0; row < needs.tokens.size(); ++row) {
      next_rows.push_back(rows.at(static_cast<size_t>(needs.parents[row])));
      next_rows.back().push_back(needs.tokens[row]);
      EXPECT_EQ(std::ssize(next_rows.back()), needs.position + 1);
      if (needs.k == 0) continue;
      const bool whole =
          needs.full_row || given == Given::FullRows || (given == Given::Either && row % 2 == 0);
      answers.emplace_back(model(next_rows.back()), whole, needs.k);
    }
    rows = std::move(next_rows);
    std::vector<RowScores> scores;
    for (const Answer& answer : answers) scores.push_back(answer.row);
    search.advance(scores);
  }
  return search.results();
}

void expect_same(const std::vector<Hypothesis>& a, const std::vector<Hypothesis>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].ids, b[i].ids);
    EXPECT_EQ(a[i].score, b[i].score);  // to the bit
    EXPECT_EQ(a[i].reason, b[i].reason);
  }
}

BeamSearch search_of(const GenerateRequest& request, const GenerateRow& row, int64_t vocab) {
  GenerationOptions options = request.options;
  options.forced_bos_token_id = row.forced_bos_token_id;
  return {std::move(options), row.prompt, vocab};
}

struct Case {
  Json json;
  GenerateRequest request;

  explicit Case(const std::string& line) : json(Json::parse(line)) {
    Json config = json.value("config", Json::object());
    const bool file = json.contains("generation_config");
    const Json* generation_config = file ? &json["generation_config"] : nullptr;
    request =
        parse_generate_request(json["request"], defaults_from(config, generation_config), vocab());
  }
  int64_t vocab() const { return json["vocab"]; }
  Table model(const GenerateRow& row) const {
    return {json["seed"], static_cast<uint32_t>(row.input_ids[0]), json["vocab"], json["eos_bias"],
            json["spread"]};
  }
};

std::vector<std::string> golden_lines() {
  std::ifstream file(NG_SOURCE_DIR "/testdata/search_goldens.jsonl");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void expect_golden(const Case& golden) {
  const Json& results = golden.json["results"];
  ASSERT_EQ(golden.request.rows.size(), results.size());
  EXPECT_EQ(golden.json.value("warned", false),
            std::ranges::any_of(golden.request.warnings, [](const auto& text) {
              return text.find("minimum") != text.npos;
            }));
  for (size_t i = 0; i < results.size(); ++i) {
    const GenerateRow& row = golden.request.rows[i];
    const BeamSearch search = search_of(golden.request, row, golden.vocab());
    const auto ours = run(search, golden.model(row), Given::Candidates);
    ASSERT_EQ(ours.size(), results[i].size());
    for (size_t n = 0; n < ours.size(); ++n) {
      const double score = results[i][n]["score"];
      EXPECT_EQ(ours[n].ids, results[i][n]["ids"].get<Ids>());
      if (search.beams() == 1) continue;  // transformers has no score for greedy
      EXPECT_NEAR(ours[n].score, score, 1e-4 * (1 + std::abs(score)));
    }
    expect_same(ours, run(search, golden.model(row), Given::FullRows));
    expect_same(ours, run(search, golden.model(row), Given::Either));
  }
}

TEST(BeamSearch, FindsWhatTransformersFinds) {
  const auto lines = golden_lines();
  ASSERT_GE(lines.size(), 600U);
  for (const std::string& line : lines) {
    SCOPED_TRACE(line);
    if (line.find("\"error\"") == line.npos) {
      expect_golden(Case(line));
    } else {
      const auto all = [&] {
        const Case golden(line);
        for (const GenerateRow& row : golden.request.rows) {
          run(search_of(golden.request, row, golden.vocab()), golden.model(row), Given::Either);
        }
      };
      EXPECT_THROW(all(), Error);
    }
    if (testing::Test::HasFailure()) return;
  }
}

// Options as a request would set them, for a prompt of one id.
GenerationOptions options_of(const std::string& json) {
  GenerationOptions options;
  options.eos_token_id = {2};
  const Json fields = Json::parse(json);
  for (const auto& [key, value] : fields.items()) {
    EXPECT_TRUE(apply_option(options, key, value, "test")) << key;
  }
  resolve(options, 1);
  return options;
}

// Small integers as logits: ties within and between rows everywhere.
TEST(BeamSearch, CandidatesEqualFullRowsEvenInTies) {
  std::mt19937 random(5);
  const auto below = [&](uint32_t n) { return static_cast<int>(random() % n); };
  for (int round = 0; round < 400; ++round) {
    const int vocab = 16 + below(40);
    const Json json = {{"num_beams", 1 + below(5)},
                       {"max_length", 4 + below(12)},
                       {"repetition_penalty", round % 2 == 0 ? 1.0 : 1.5},
                       {"no_repeat_ngram_size", below(3)},
                       {"suppress_tokens", {below(16), below(16)}},
                       {"bad_words_ids", {{below(16)}, {below(16), below(16)}}},
                       {"eos_token_id", {2, below(16)}},
                       {"min_length", below(6)},
                       {"length_penalty", below(5) / 2.0}};
    SCOPED_TRACE(json.dump());
    const auto seed = static_cast<uint32_t>(random());
    const Model model = [&](const Ids& ids) {
      std::vector<float> logits = Table{seed, 0, static_cast<uint32_t>(vocab), 0}(ids);
      for (float& logit : logits) logit = std::round(logit / 2);
      return logits;
    };
    const BeamSearch search(options_of(json.dump()), {2}, vocab);
    expect_same(run(search, model, Given::Candidates), run(search, model, Given::FullRows));
  }
}

TEST(BeamSearch, AsksForOneRowAfterThePromptAndAForcedIdAndForNBeamsThen) {
  BeamSearch search(options_of(R"({"num_beams": 3, "forced_bos_token_id": 7, "max_length": 9})"),
                    {2}, 20);
  EXPECT_THAT(search.next().tokens, ElementsAre(2));
  EXPECT_EQ(search.next().k, 0);
  search.advance({});
  EXPECT_THAT(search.next().tokens, ElementsAre(7));
  EXPECT_THAT(search.next().parents, ElementsAre(0));
  EXPECT_EQ(search.next().position, 1);
  EXPECT_EQ(search.next().k, 3 + 1);
  std::vector<float> scores(20);
  for (size_t id = 0; id < 20; ++id) scores[id] = static_cast<float>(id % 13);
  search.advance(std::vector<RowScores>{{scores, {}, 14}});
  EXPECT_THAT(search.next().tokens, ElementsAre(12, 11, 10));
  EXPECT_THAT(search.next().parents, ElementsAre(0, 0, 0));
}

TEST(BeamSearch, NeedsCandidatesForBeamsEndsAndEditedIds) {
  const auto needs = [](const std::string& json) {
    return BeamSearch(options_of(json), {2, 7, 7, 9}, 100).next();
  };
  EXPECT_EQ(needs(R"({})").k, 1);
  EXPECT_EQ(needs(R"({"num_beams": 4})").k, 5);
  EXPECT_EQ(needs(R"({"num_beams": 4, "eos_token_id": [2, 5, 5]})").k, 6);
  EXPECT_EQ(needs(R"({"repetition_penalty": 1.5})").k, 1 + 3);  // 2, 7, 9
  EXPECT_EQ(needs(R"({"repetition_penalty": 1.5, "suppress_tokens": [9, 9, 11]})").k, 1 + 4);
  EXPECT_EQ(needs(R"({"num_beams": 64, "suppress_tokens": [40, 41]})").k, 67);
  EXPECT_FALSE(needs(R"({"repetition_penalty": 1.5})").full_row);
  EXPECT_TRUE(needs(R"({"repetition_penalty": 0.5})").full_row);
}

TEST(BeamSearch, IsDoneBeforeTheFirstStepWhenTheOnlyIdIsForced) {
  const BeamSearch search(options_of(R"({"max_length": 2, "forced_eos_token_id": 5})"), {2}, 20);
  ASSERT_TRUE(search.done());
  const auto results = search.results();
  EXPECT_THAT(results.at(0).ids, ElementsAre(2, 5));
  EXPECT_EQ(name(results.at(0).reason), "length");  // 5 does not end a sequence, the length does
}

TEST(BeamSearch, TellsWhyASequenceEnded) {
  const Model counts = [](const Ids& ids) {
    std::vector<float> logits(8, 0.0F);
    logits[ids.size() < 5 ? 4 : 2] = 9;
    return logits;
  };
  const auto ended = [&](int max_length) {
    const auto options = options_of(fmt::format(R"({{"max_length": {}}})", max_length));
    return run(BeamSearch(options, {2}, 8), counts, Given::Candidates).at(0);
  };
  EXPECT_THAT(ended(5).ids, ElementsAre(2, 4, 4, 4, 4));
  EXPECT_EQ(name(ended(5).reason), "length");
  EXPECT_THAT(ended(6).ids, ElementsAre(2, 4, 4, 4, 4, 2));
  EXPECT_EQ(name(ended(6).reason), "eos");
  EXPECT_THAT(ended(9).ids, ElementsAre(2, 4, 4, 4, 4, 2));
}

TEST(BeamSearch, RefusesFewerTokensThanBeams) {
  const auto search = [](int banned) {
    Ids ids(static_cast<size_t>(banned));
    std::iota(ids.begin(), ids.end(), 3);
    GenerationOptions options = options_of(R"({"num_beams": 4})");
    options.suppress_tokens = ids;
    run(BeamSearch(options, {2}, 12), Table{1, 1, 12, 0}, Given::Candidates);
  };
  EXPECT_EQ(error_of([&] { search(8); }), "");
  EXPECT_THAT(error_of([&] { search(9); }), HasSubstr("3 tokens can be chosen at position 1"));
}

TEST(BeamSearch, RefusesMoreSequencesThanForcedIdsLeave) {
  const auto search = [](int sequences) {
    GenerationOptions options =
        options_of(R"({"num_beams": 4, "max_new_tokens": 1, "forced_bos_token_id": 5})");
    options.num_return_sequences = sequences;
    run(BeamSearch(options, {2}, 12), Table{1, 1, 12, 0}, Given::Candidates);
  };
  EXPECT_EQ(error_of([&] { search(1); }), "");
  EXPECT_THAT(error_of([&] { search(2); }), HasSubstr("only 1 sequences could be made"));
}

TEST(BeamSearch, RefusesScoresThatAreNoNumbers) {
  for (const char* json : {R"({})", R"({"num_beams": 2})"}) {
    for (const float wrong : {NAN, INFINITY}) {
      for (const Given given : {Given::FullRows, Given::Candidates}) {
        const Model model = [&](const Ids&) { return std::vector<float>(6, wrong); };
        const auto all = [&] { run(BeamSearch(options_of(json), {2}, 6), model, given); };
        EXPECT_THAT(error_of(all), HasSubstr("not a number"));
      }
    }
  }
}

TEST(BeamSearch, RefusesALengthPenaltyBeyondFloats) {
  const auto search = [](const char* penalty) {
    BeamSearch(options_of(fmt::format(R"({{"num_beams": 2, "max_length": 8001,
                                          "length_penalty": {}}})",
                                      penalty)),
               {2}, 12);
  };
  EXPECT_EQ(error_of([&] { search("9"); }), "");
  EXPECT_THAT(error_of([&] { search("10"); }), HasSubstr("length_penalty is 10"));
  EXPECT_THAT(error_of([&] { search("-10"); }), HasSubstr("length_penalty is -10"));
}

TEST(BeamSearch, RunsSixtyFourBeamsToTheEnd) {
  const auto options = options_of(
      R"({"num_beams": 64, "num_return_sequences": 64, "max_length": 30, "length_penalty": 0.5})");
  const auto results = run(BeamSearch(options, {2}, 70), Table{3, 1, 70, 1}, Given::Either);
  ASSERT_EQ(results.size(), 64U);
  EXPECT_TRUE(std::ranges::is_sorted(
      results, [](const auto& a, const auto& b) { return a.score > b.score; }));
  std::vector<Ids> all;
  for (const auto& result : results) all.push_back(result.ids);
  std::ranges::sort(all);
  EXPECT_EQ(std::ranges::adjacent_find(all), all.end());
}

}  // namespace
}  // namespace ng
