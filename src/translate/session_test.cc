// Does a session refuse phases that it cannot bind, and sources that do not fit?
#include "translate/session.h"

#include <gmock/gmock.h>

#include "backends/backend.h"
#include "base/refusal_for_test.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "models/m2m100.h"
#include "passes/passes.h"

namespace ng {
namespace {

using testing::HasSubstr;

M2M100Config config() {
  M2M100Config config;
  config.vocab_size = 40;
  config.d_model = 8;
  config.encoder = {1, 12, 2};
  config.decoder = {1, 12, 2};
  return config;
}

// The phases of a model with room for 6 source tokens, for the reference backend. Weights are zero.
struct Tiny {
  std::map<std::string, std::string> texts;
  std::unique_ptr<Device> device = find_backend("reference").open({1});
  int64_t vocabulary = 40;

  Tiny() {
    LoweringOptions lowering;
    lowering.fused = lowering.packed = false;
    for (const std::string_view phase : kPhases) {
      const Graph graph = build_m2m100(config(), phase, {6, 8, 16, 64, 64, 40});
      texts[std::string(phase)] = print(lower(graph, lowering).phase);
    }
  }
  Session open() const {
    return Session({vocabulary, 1, [this](const std::string& phase) { return texts.at(phase); },
                    [this](const std::string& name) { return zeros(name); }},
                   *device);
  }
  Tensor zeros(const std::string& name) const {
    for (const auto& [phase, text] : texts) {
      const Graph graph = parse_graph(text, phase);
      for (const Node& node : graph.nodes()) {
        if (node.op == Op::weight && node.attrs.name == name) {
          const auto bytes = static_cast<size_t>(byte_count(node.types[0]));
          return Tensor::own(node.types[0], std::vector<std::byte>(bytes));
        }
      }
    }
    throw std::runtime_error(name);
  }
  // What a session with every phase loaded says when `from` is `to` in the text of `phase`.
  std::string with(const std::string& phase, std::string_view from, std::string_view to) const {
    Tiny changed;
    std::string& text = changed.texts.at(phase);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << phase << from;
    text.replace(at, from.size(), to);
    return refusal([&] { changed.run(); });
  }
  void run() const {
    Session session = open();
    const std::vector<int32_t> ids = {4, 5};
    const Source source{ids, {}};
    const Memory memory = session.encode({&source, 1})[0];
    const int32_t row = session.new_cache_row();
    const DecodeRow rows[] = {{2, session.position_of(2, 0), {&row, 1}, memory}};
    StepResult result;
    for (const Wanted wanted : {Wanted::nothing, Wanted::candidates, Wanted::logits}) {
      session.step(rows, wanted, 3, result);
    }
  }
};

TEST(Session, RunsEveryPhaseThatHasItsPorts) { EXPECT_NO_THROW(Tiny().run()); }

TEST(Session, NamesThePortThatAPhaseLacks) {
  const Tiny tiny;
  for (const auto& [phase, output] : {std::pair("encode", "hidden"),
                                      {"decode", "scores"},
                                      {"decode", "ids"},
                                      {"decode", "log_sum_exp"},
                                      {"logits", "logits"},
                                      {"logits", "log_sum_exp"}}) {
    const std::string message =
        tiny.with(phase, fmt::format("output \"{}\"", output), "output \"other\"");
    EXPECT_THAT(message, HasSubstr(fmt::format("phase {}", phase)));
    EXPECT_THAT(message, HasSubstr(fmt::format("'{}'", output)));
  }
  for (const auto& [phase, input] : {std::pair("encode", "tokens"),
                                     {"encode", "start"},
                                     {"encode", "memory_index"},
                                     {"prefill", "history"},
                                     {"decode", "cache_index"},
                                     {"logits", "memory_length"}}) {
    const std::string message =
        tiny.with(phase, fmt::format("name=\"{}\"", input), "name=\"other\"");
    EXPECT_THAT(message, HasSubstr(fmt::format("phase {}", phase)));
    EXPECT_THAT(message, HasSubstr(fmt::format("'{}'", input)));
  }
  EXPECT_THAT(tiny.with("decode", "name=\"memory_keys.0\"", "name=\"keyless\""),
              HasSubstr("phase decode: nothing gives the graph's input 'keyless'"));
}

TEST(Session, RefusesLogitsOfAnotherVocabulary) {
  Tiny tiny;
  tiny.vocabulary = 4'000'000;
  EXPECT_THAT(refusal([&] { tiny.run(); }), HasSubstr("'logits' as f32[rows<=8,40]"));
}

TEST(Session, TakesAsManySourceIdsAsFitAndRefusesOneMore) {
  const Tiny tiny;
  Session session = tiny.open();
  const std::vector<int32_t> ids = {4, 5, 6, 7};
  const Source fit[] = {{ids, {}}, {std::span(ids).first(2), {}}};
  const Source more[] = {{ids, {}}, {std::span(ids).first(3), {}}};
  EXPECT_EQ(session.encode(fit).size(), 2U);
  EXPECT_THAT(refusal([&] { session.encode(more); }),
              HasSubstr("7 source ids at once, at most 6 fit: give fewer rows"));
}

}  // namespace
}  // namespace ng
