// The loaded phases of a bundle and their caches: encodes sentences, runs decode steps.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "bundle/static_sizes.h"
#include "translate/states.h"

namespace ng {

// One source: what the encoder reads. Ids with mask 0 are read by nobody (mask empty: all count).
struct Source {
  std::span<const int32_t> ids;
  std::span<const uint8_t> mask;
};

// A source's run of encoded tokens in the cross-attention cache.
struct Memory {
  int32_t start = 0, length = 0;
};

// One row of a decode step: a token, where it stands, and the cache rows of the tokens before it,
// its own last (Session::new_cache_row).
struct DecodeRow {
  int32_t token = 0;
  int32_t position = 0;  // position_of()
  std::span<const int32_t> history;
  Memory memory;
};

enum class Wanted { nothing, candidates, logits };

// Of one step, row by row.
struct StepResult {
  int64_t k = 0;                   // candidates or logits a row
  std::vector<float> scores;       // [rows, k]: best first, or every id's
  std::vector<int32_t> ids;        // [rows, k]; empty for logits
  std::vector<float> log_sum_exp;  // [rows]
};

// What a session runs: a bundle's parts (tools/opened.cc) or a checkpoint's (compile/verify.cc).
struct Phases {
  int64_t vocabulary = 0, pad = 1;
  std::function<std::string(const std::string& phase)> artifact;
  WeightSource weight;
};

// The same for a static target, whose executables (translate/buckets.h) keep the states themselves.
struct StaticPhases {
  int64_t vocabulary = 0, pad = 1;
  StaticSizes sizes;
  bool logits = false;  // whole rows can be had
  std::function<std::unique_ptr<Executable>(const std::string& phase)> load;
};

class Session {
 public:
  // The device must outlive the session.
  Session(Phases phases, Device& device);
  explicit Session(StaticPhases phases);
  ~Session();

  // What a static target was built for; all zeros where memory follows the request.
  const StaticSizes& sizes() const { return sizes_; }
  bool has_logits() const { return has_logits_; }

  int64_t vocabulary() const { return vocabulary_; }
  int64_t pad() const { return pad_; }

  // The row of the position table for the id at `index` of a sequence of decoder ids or, where the
  // ids before it may hold padding, with `index` ids that are no padding before it
  // (create_position_ids_from_input_ids).
  int32_t position_of(int32_t id, int64_t index) const;

  // Encodes the sources and keeps their keys and values until release(). With `hidden`, it gets the
  // encoder's output [all ids of all sources, d], masked ones included.
  std::vector<Memory> encode(std::span<const Source> sources, Tensor* hidden = nullptr);
  void release(const Memory& memory);

  int32_t new_cache_row() { return cache_rows_.take(1); }
  void release_cache_row(int32_t row) { cache_rows_.give(row, 1); }

  // Rows of one sentence may depend on each other: a row reads the keys of every row of its
  // history, those of the same step too.
  void step(std::span<const DecodeRow> rows, Wanted wanted, int64_t k, StepResult& result);

  // Bytes that the caches need for so many source and target tokens.
  uint64_t memory_bytes(int64_t source_tokens) const;
  uint64_t cache_bytes(int64_t target_tokens) const;

 private:
  struct Phase;
  struct PackedSources;
  // Rows of memory that a source of that length takes.
  int32_t run_of(int32_t length) const {
    return sizes_.slots > 0 ? static_cast<int32_t>(sizes_.source) : length;
  }
  Phase& phase(const std::string& name);
  void run_encoder(std::span<const Source> sources, std::span<const Memory> memories,
                   Tensor* hidden);
  void pack(const Source& source, size_t offset, const Memory& memory, bool masked,
            PackedSources& packed) const;

  int64_t vocabulary_, pad_;
  StaticSizes sizes_;
  bool has_logits_ = true;
  std::function<std::unique_ptr<Executable>(const std::string& phase)> load_;
  std::map<std::string, std::unique_ptr<Phase>> phases_;
  States states_;
  RowRuns memory_rows_, cache_rows_;
};

}  // namespace ng
