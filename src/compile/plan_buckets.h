// Which source lengths should modules be compiled for, so that little of their work is padding?
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace ng {

using LengthCounts = std::map<int64_t, int64_t>;  // tokens of a source → sources

inline constexpr int64_t kShortestSource = 3;        // a language, a token and an end
inline constexpr int64_t kLongestCounted = 1 << 20;  // tokens of one source
inline constexpr int64_t kMostGraphs = 64;

// Sources as they are run: what is longer than `most` in as few pieces as there must be, of equal
// length or one token more; what is shorter than kShortestSource as long as that.
LengthCounts as_run(const LengthCounts& counts, int64_t most);

// At most `graphs` lengths, ascending, the last of them the longest source, that make the sum over
// all sources of the least length that holds each as small as can be. The lengths of some sources
// are enough for that: a bucket with none at its end could be shorter. Exact: dynamic programming
// over the distinct lengths, whose best cuts move one way. `counts` must not be empty.
std::vector<int64_t> plan_buckets(const LengthCounts& counts, int64_t graphs);

struct Padding {
  int64_t tokens = 0, computed = 0;
  double share() const { return 1.0 - static_cast<double>(tokens) / static_cast<double>(computed); }
};
// Every length must fit the last of the ascending buckets.
Padding padding_of(const LengthCounts& counts, const std::vector<int64_t>& buckets);

}  // namespace ng
