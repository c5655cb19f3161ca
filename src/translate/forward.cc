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

// The rows of a request, as many at a time as a session holds.
class Batches {
 public:
  Batches(Session& session, const ForwardInputs& in) : session_(session), in_(in) {
    const StaticSizes& sizes = session.sizes();
    if (sizes.slots == 0) return;
    together_ = sizes.slots;
    check(in.source <= sizes.source, "{} source ids a row, the bundle's modules take {}", in.source,
          sizes.source);
    check(in.target <= sizes.target, "{} decoder ids a row, the bundle's modules take {}",
          in.target, sizes.target);
  }

  // The rows from `first` on that fit.
  std::vector<Memory> encode(int64_t first, Tensor* hidden = nullptr) const {
    std::vector<Source> sources;
    for (int64_t b = first; b < std::min(in_.batch, first + together_); ++b) {
      const auto at = static_cast<size_t>(b * in_.source), size = static_cast<size_t>(in_.source);
      Source source{std::span(in_.input_ids).subspan(at, size), {}};
      if (!in_.attention_mask.empty()) {
        source.mask = std::span(in_.attention_mask).subspan(at, size);
      }
      sources.push_back(source);
    }
    return session_.encode(sources, hidden);
  }

  // All hidden states [batch, source, d], and the memory of all rows if all fit together.
  std::vector<Memory> encode_all(Tensor& hidden) const {
    std::vector<std::byte> bytes;
    std::vector<Memory> memories;
    for (int64_t first = 0; first < in_.batch; first += together_) {
      for (const Memory& memory : memories) session_.release(memory);
      memories = encode(first, &hidden);
      bytes.insert(bytes.end(), hidden.data.begin(), hidden.data.end());
    }
    const int64_t d = hidden.type.size(1);
    hidden = Tensor::own({DType::f32, {in_.batch, in_.source, d}}, std::move(bytes));
    if (together_ >= in_.batch) return memories;
    for (const Memory& memory : memories) session_.release(memory);
    return {};
  }

 private:
  Session& session_;
  const ForwardInputs& in_;
  int64_t together_ = INT64_MAX / 2;
};

}  // namespace

void forward(Session& session, const ForwardInputs& in, const ForwardOutputs& outputs) {
  check(in.batch > 0 && in.source > 0 && in.target > 0, "input_ids or decoder_input_ids is empty");
  check(session.has_logits(),
        "the bundle's modules do not give the scores of all ids: compile it with --with-logits");
  check_ids(in.input_ids, session.vocabulary(), "input_ids");
  check_ids(in.decoder_input_ids, session.vocabulary(), "decoder_input_ids");
  const uint64_t needed =
      session.memory_bytes(in.batch * in.source) + session.cache_bytes(in.target);
  check(needed <= available_memory(),
        "{} MB of caches are needed, {} MB of memory are available: give fewer or shorter rows",
        needed >> 20, available_memory() >> 20);
  const Batches batches(session, in);
  Tensor hidden;
  std::vector<Memory> memories = batches.encode_all(hidden);
  outputs.hidden(hidden);
  for (int64_t b = 0; b < in.batch; ++b) {
    if (memories.empty()) memories = batches.encode(b);
    const auto at = static_cast<size_t>(b * in.target);
    run_target(session, std::span(in.decoder_input_ids).subspan(at, static_cast<size_t>(in.target)),
               memories.front(), outputs.logits);
    session.release(memories.front());
    memories.erase(memories.begin());
  }
}

}  // namespace ng
