// What a model family gives the compiler: graphs for its phases, over tensors of the checkpoint.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "ir/graph.h"

namespace ng {

// Capacities of the counts (tensor/tensor.h). Where memory follows the request (the CPU) they only
// bound it; a static target computes them whole.
struct Sizes {
  int64_t tokens, rows, context, cache, memory, candidates;
};

// Phases and what they are bound to; all counts are inputs or carried by buffers.
//   encode   tokens, positions, start, length, memory_index → hidden, and the states memory_keys.N,
//            memory_values.N of every decoder layer
//   prefill  tokens, positions, history, length, cache_index, memory_start, memory_length and the
//            memory → the states keys.N, values.N; no projection
//   decode   the same, and scores, ids [rows, candidates], log_sum_exp [rows]
//   logits   the same as prefill, and logits [rows, vocabulary], log_sum_exp [rows]
// Every phase also names encoder.N / decoder.N, the output of layer N, for whoever compares.
inline constexpr std::string_view kPhases[] = {"encode", "prefill", "decode", "logits"};

struct Model {
  std::string family;
  int64_t vocabulary = 0;
  int64_t pad = 1;  // also the position of padding: real ones start at pad + 1
  int64_t decoder_start = 2;
  std::vector<int64_t> eos;
  int64_t parameters = 0;
  // The graph's weight names → the checkpoint's.
  std::map<std::string, std::string> weights;
  std::function<Graph(std::string_view phase, const Sizes& sizes)> build;
};

// The family of config.json's model_type. Unknown: User, listing those there are.
Model open_model(const Checkpoint& checkpoint);

// The same of a configuration alone: `weights` is empty, and nothing is known of a checkpoint.
Model describe_model(const Json& config, const std::string& what);

}  // namespace ng
