#include "translate/beam_regions.h"

#include <algorithm>

#include "base/error.h"

namespace ng {

void BeamRegions::forget(const std::set<int32_t>& rows) {
  for (auto& [region, held] : held_) {
    const auto gone = [&](int32_t row) { return rows.contains(row); };
    held.erase(std::find_if(held.begin(), held.end(), gone), held.end());
  }
}

std::vector<BeamRegions::Place> BeamRegions::take(int32_t slot, std::span<const Row> waiting,
                                                  size_t most, bool in_place,
                                                  const StaticSizes& sizes) {
  const auto first = slot * static_cast<int32_t>(sizes.beams);
  const auto end = first + static_cast<int32_t>(sizes.beams);
  std::vector<Place> places;
  std::set<int32_t> used;
  for (const Row& row : waiting) {
    int32_t parent = -1;  // of the regions that begin with the row's past the shortest
    for (int32_t region = first; region < end; ++region) {
      const auto &held = held_[region], &best = held_[std::max(parent, first)];
      const bool begins = held.size() >= row.past().size() &&
                          std::equal(row.past().begin(), row.past().end(), held.begin());
      if (begins && (parent < 0 || held.size() < best.size())) parent = region;
    }
    if (parent < 0 || places.size() == most) continue;
    const bool follows = held_[parent].size() == row.past().size() && used.contains(parent);
    if (in_place && !places.empty() && !follows) continue;
    const bool stays = used.insert(parent).second || in_place;
    places.push_back({row, stays ? parent : -1, parent});
    if (in_place) held_[parent].assign(row.history.begin(), row.history.end());
  }
  NG_CHECK(!places.empty(), "slot {}: nothing holds the past of row {}", slot, waiting[0].number);
  for (Place& place : places) {
    for (int32_t region = first; place.region < 0; ++region) {
      NG_CHECK(region < end, "slot {}: {} rows for {} regions", slot, places.size(), sizes.beams);
      if (used.insert(region).second) place.region = region;
    }
    held_[place.region].assign(place.row.history.begin(), place.row.history.end());
  }
  return places;
}

}  // namespace ng
