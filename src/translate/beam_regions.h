// Where does the past of each beam lie where caches are put in order, and where does it go next?
#pragma once

#include <map>
#include <set>
#include <span>
#include <vector>

#include "bundle/static_sizes.h"

namespace ng {

// For bundles that reorder, whose caches are regions of `target` rows, one a beam of each slot. A
// session numbers its cache rows; a region holds, row by row, what was written for such numbers.
// One for all phases of a session. It takes runs for done: one that fails ends their searches.
class BeamRegions {
 public:
  struct Row {
    int64_t number = 0;                // of the request
    std::span<const int32_t> history;  // the cache rows that it reads, its own last
    std::span<const int32_t> past() const { return history.first(history.size() - 1); }
  };
  struct Place {
    Row row;
    int32_t region = 0, parent = 0;  // where it writes, and which region's past it goes on from
  };

  // A step is about to write these cache rows: what was written for a number before is gone.
  void forget(const std::set<int32_t>& rows);

  // Those of `waiting` (rows of one slot, at least one) that the next run takes: at most `most`
  // whose past is there, each in a region of its own, in that of its past if it is the first to go
  // on from it. In place, which moves no past: a row and those that go on from it one by one.
  std::vector<Place> take(int32_t slot, std::span<const Row> waiting, size_t most, bool in_place,
                          const StaticSizes& sizes);

 private:
  std::map<int32_t, std::vector<int32_t>> held_;  // by region
};

}  // namespace ng
