#include "translate/forward.h"

#include "base/error.h"
#include "base/machine.h"

namespace ng {
namespace {

constexpr int64_t kChunk = 64;  // target positions a step

void check_ids(std::span<const int32_t> ids, int64_t vocabulary, const char* what) {
  for (size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] >= 0 && ids[i] < vocabulary, "{}: element {} is {}, the vocabulary has {} ids",
          what, i, ids[i], vocabulary);
  }
}

// Runs the decoder over one row's ids, kChunk positions a step.
void run_target(Session& session, std::span<const int32_t> ids, const Memory& memory,
                const std::function<void(std::span<const float>)>& logits) {
  std::vector<int32_t> history;
  for (size_t i = 0; i < ids.size(); ++i) history.push_back(session.new_cache_row());
  int64_t real = 0;
  StepResult result;
  for (size_t first = 0; first < ids.size(); first += kChunk) {
    std::vector<DecodeRow> rows;
    for (size_t i = first; i < std::min(ids.size(), first + kChunk); ++i) {
      const int32_t position = session.position_of(ids[i], real);
      real += ids[i] == session.pad() ? 0 : 1;
      rows.push_back({ids[i], position, std::span(history).first(i + 1), memory});
    }
    session.step(rows, Wanted::logits, 0, result);
    logits(result.scores);
  }
  for (int32_t row : history) session.release_cache_row(row);
}

}  // namespace

void forward(Session& session, const ForwardInputs& in, const ForwardOutputs& outputs) {
  check(in.batch > 0 && in.source > 0 && in.target > 0, "input_ids or decoder_input_ids is empty");
  check_ids(in.input_ids, session.vocabulary(), "input_ids");
  check_ids(in.decoder_input_ids, session.vocabulary(), "decoder_input_ids");
  const uint64_t needed =
      session.memory_bytes(in.batch * in.source) + session.cache_bytes(in.target);
  check(needed <= available_memory(),
        "{} MB of caches are needed, {} MB of memory are available: give fewer or shorter rows",
        needed >> 20, available_memory() >> 20);
  std::vector<Source> sources;
  for (int64_t b = 0; b < in.batch; ++b) {
    const auto at = static_cast<size_t>(b * in.source), size = static_cast<size_t>(in.source);
    Source source{std::span(in.input_ids).subspan(at, size), {}};
    if (!in.attention_mask.empty()) source.mask = std::span(in.attention_mask).subspan(at, size);
    sources.push_back(source);
  }
  Tensor hidden;
  const std::vector<Memory> memories = session.encode(sources, &hidden);
  const int64_t d = hidden.type.size(1);
  hidden.type.shape = {in.batch, in.source, d};
  outputs.hidden(hidden);
  for (int64_t b = 0; b < in.batch; ++b) {
    const auto at = static_cast<size_t>(b * in.target);
    run_target(session, std::span(in.decoder_input_ids).subspan(at, static_cast<size_t>(in.target)),
               memories[static_cast<size_t>(b)], outputs.logits);
    session.release(memories[static_cast<size_t>(b)]);
  }
}

}  // namespace ng
