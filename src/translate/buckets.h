// Which module of a static target runs a request, and how is the request padded and split for it?
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "bundle/static_sizes.h"
#include "translate/beam_regions.h"

namespace ng {

// States on the host by name, zeros at first.
using HostStates = std::map<std::string, std::vector<std::byte>>;

// A module: so many sentences with so many rows (or tokens) each. Its segments run one after the
// other: each reads what the request or an earlier one gives, by name, or a state; a device keeps
// its states, those of the CPU are `states`, which all modules share.
struct Bucket {
  struct Segment {
    std::string name;                                   // "decode-b1-s256-t256", or one with .2
    std::function<std::unique_ptr<Executable>()> load;  // called when it is first needed
    HostStates* states = nullptr;
  };
  std::string name;
  int64_t sentences = 0, rows = 0;
  std::vector<Segment> segments;
};

// How often each segment ran, by name.
using Executions = std::map<std::string, uint64_t>;

// The modules of one phase as one executable with the ports of the ragged phase (models/model.h)
// but the states, which the device keeps. A run takes the smallest modules that hold it: sentences
// are split over several runs where there are more, rows of a sentence likewise, earlier ones
// first. Rows that nobody asked for repeat another's work or write to the sink. Of equal candidates
// the lower id comes first, whatever order the device found. Where beams are reordered, rows that
// go on from one another take a run each. `executions` and `regions`, which all phases of a session
// share, must outlive it.
std::unique_ptr<Executable> bucketed(const std::string& phase, std::vector<Bucket> buckets,
                                     const StaticSizes& sizes, Executions& executions,
                                     BeamRegions& regions);

}  // namespace ng
