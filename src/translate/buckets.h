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
// the lower id comes first, whatever order the device found. Where beams are reordered, rows that
// go on from one another take a run each. `executions` and `regions`, which all phases of a session
// share, must outlive it.
std::unique_ptr<Executable> bucketed(const std::string& phase, std::vector<Bucket> buckets,
                                     const StaticSizes& sizes, Executions& executions,
                                     BeamRegions& regions);

}  // namespace ng
