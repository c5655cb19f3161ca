#include "compile/plan_buckets.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace ng {
namespace {

// Distinct lengths l(0) < l(1) < … ; best(g, j) is the least cost of the first j of them in at most
// g buckets, and cut(g, j) where its last bucket begins:
//   best(0, 0) = 0,  best(g, j) = min over i < j of best(g - 1, i) + (n(i) + … + n(j - 1)) · l(j -
//   1)
// The last factor obeys the quadrangle inequality (the counts add, the lengths grow), so the least
// best cut never moves left as j grows: the cuts of the middle bound those on both sides.
class Planner {
 public:
  explicit Planner(const LengthCounts& counts) {
    before_.push_back(0);
    for (const auto& [length, count] : counts) {
      lengths_.push_back(length);
      before_.push_back(before_.back() + count);
    }
    best_.assign(before_.size(), kNone);
    best_[0] = 0;
  }

  // One bucket more.
  void add_bucket() {
    next_.assign(best_.size(), kNone);
    next_[0] = 0;
    cuts_.emplace_back(best_.size(), 0);
    fill({1, lengths_.size()}, {0, lengths_.size() - 1});
    best_.swap(next_);
  }

  std::vector<int64_t> buckets() const {
    std::vector<int64_t> found;
    size_t end = lengths_.size();
    for (size_t g = cuts_.size(); g > 0 && end > 0; --g) {
      found.push_back(lengths_[end - 1]);
      end = cuts_[g - 1][end];
    }
    std::reverse(found.begin(), found.end());
    return found;
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  struct Range {
    size_t first, last;
  };

  // next_ and the new cuts for j in `ends`, where every best cut is in `cuts`.
  void fill(Range ends, Range cuts) {
    if (ends.first > ends.last) return;
    const size_t j = ends.first + (ends.last - ends.first) / 2;
    size_t cut = cuts.first;
    for (size_t i = cuts.first; i <= std::min(cuts.last, j - 1); ++i) {
      if (best_[i] == kNone) continue;
      const int64_t cost = best_[i] + (before_[j] - before_[i]) * lengths_[j - 1];
      if (cost >= next_[j]) continue;
      next_[j] = cost;
      cut = i;
    }
    cuts_.back()[j] = cut;
    fill({ends.first, j - 1}, {cuts.first, cut});
    fill({j + 1, ends.last}, {cut, cuts.last});
  }

  std::vector<int64_t> lengths_, before_;  // before_[j]: sources of the first j lengths
  std::vector<int64_t> best_, next_;
  std::vector<std::vector<size_t>> cuts_;  // [bucket][end]
};

}  // namespace

LengthCounts as_run(const LengthCounts& counts, int64_t most) {
  LengthCounts run;
  for (const auto& [length, count] : counts) {
    const int64_t tokens = std::max(length, kShortestSource);
    const int64_t pieces = (tokens + most - 1) / most, longer = tokens % pieces;
    run[tokens / pieces] += (pieces - longer) * count;
    if (longer > 0) run[tokens / pieces + 1] += longer * count;
  }
  return run;
}

std::vector<int64_t> plan_buckets(const LengthCounts& counts, int64_t graphs) {
  NG_CHECK(!counts.empty() && graphs >= 1, "{} lengths, {} graphs", counts.size(), graphs);
  Planner planner(counts);
  for (int64_t g = 0; g < std::min<int64_t>(graphs, counts.size()); ++g) planner.add_bucket();
  return planner.buckets();
}

Padding padding_of(const LengthCounts& counts, const std::vector<int64_t>& buckets) {
  Padding padding;
  for (const auto& [length, count] : counts) {
    const auto bucket = std::lower_bound(buckets.begin(), buckets.end(), length);
    NG_CHECK(bucket != buckets.end(), "no bucket for {} tokens", length);
    padding.tokens += length * count;
    padding.computed += *bucket * count;
  }
  return padding;
}

}  // namespace ng
