// What does the model compute for given ids, before any search? The teacher-forced pass behind
// `forward` and `verify`.
#pragma once

#include <functional>

#include "translate/session.h"

namespace ng {

// A padded batch, as transformers takes it.
struct ForwardInputs {
  int64_t batch = 0, source = 0, target = 0;
  std::vector<int32_t> input_ids;          // [batch, source]
  std::vector<uint8_t> attention_mask;     // [batch, source], or empty: every id counts
  std::vector<int32_t> decoder_input_ids;  // [batch, target]
};

struct ForwardOutputs {
  // encoder_last_hidden_state [batch, source, d], masked positions included
  std::function<void(const Tensor& hidden)> hidden;
  // logits of [batch, target, vocabulary] in order, a few target positions at a time
  std::function<void(std::span<const float> logits)> logits;
};

// Ids are checked against the vocabulary. User: an id outside, a row of which no id counts, memory.
void forward(Session& session, const ForwardInputs& inputs, const ForwardOutputs& outputs);

}  // namespace ng
