// Which module of a static target runs a request, and how is the request padded and split for it?
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace ng {

// What the modules of a bundle for a static target share (docs/neuron.md).
struct StaticSizes {
  int64_t slots = 0;                  // sentences in memory at once
  int64_t beams = 0;                  // rows of a sentence in a step that chooses
  int64_t prefill_rows = 0;           // rows of a sentence in a prefill
  int64_t source = 0;                 // tokens of the longest source: rows of a slot
  int64_t target = 0;                 // positions that a row may read: the longest output
  int64_t candidates = 0;             // k of a step; 0: the host finds them in whole rows
  int64_t vocabulary = 0, width = 0;  // of the logits, of the hidden states
  bool operator==(const StaticSizes&) const = default;

  // One more than the beams of every slot can fill: what unused rows write to.
  int64_t cache_rows() const { return slots * beams * target + 1; }
  int32_t sink() const { return static_cast<int32_t>(cache_rows() - 1); }
};

// A module: so many sentences with so many rows (or tokens) each.
struct Bucket {
  std::string name;  // "decode-b1-s256-t256"
  int64_t sentences = 0, rows = 0;
  std::function<std::unique_ptr<Executable>()> load;  // called when it is first needed
};

// How often each module ran, by name.
using Executions = std::map<std::string, uint64_t>;

// The modules of one phase as one executable with the ports of the ragged phase (models/model.h)
// but the states, which the device keeps. A run takes the smallest modules that hold it: sentences
// are split over several runs where there are more, rows of a sentence likewise, earlier ones
// first. Rows that nobody asked for repeat another's work or write to the sink. Of equal candidates
// the lower id comes first, whatever order the device found. `executions` must outlive it.
std::unique_ptr<Executable> bucketed(const std::string& phase, std::vector<Bucket> buckets,
                                     const StaticSizes& sizes, Executions& executions);

}  // namespace ng
