#include "translate/bucket_columns.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace ng {
namespace {

size_t row_bytes(const Type& type) {
  Type row = type;
  row.shape.front() = Dim(1);
  return static_cast<size_t>(byte_count(row));
}

// The k best of a row's scores: greater first, among equals the lower id. `ids` null: an id is its
// place.
void best(const float* scores, const int32_t* ids, size_t n, const Rows& rows, const Argument& to,
          const Argument& to_ids) {
  const auto id = [&](int32_t i) { return ids == nullptr ? i : ids[i]; };
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  const auto k = static_cast<size_t>(to.type.size(1));
  NG_CHECK(k <= n, "{} candidates of {}", k, n);
  std::partial_sort(order.begin(), order.begin() + static_cast<long>(k), order.end(),
                    [&](int32_t a, int32_t b) {
                      return scores[a] != scores[b] ? scores[a] > scores[b] : id(a) < id(b);
                    });
  for (size_t i = 0; i < k; ++i) {
    const int32_t found = id(order[i]);
    const size_t at = (rows.to * k + i) * sizeof(float);
    std::memcpy(to.data + at, &scores[order[i]], sizeof(float));
    std::memcpy(to_ids.data + at, &found, sizeof found);
  }
}

}  // namespace

Argument Columns::argument(const Port& port) {
  const auto found = values_.find(port.name);
  NG_CHECK(found != values_.end() && port.type.dtype == DType::s32, "a module reads {} as {}",
           port.name, to_string(port.type));
  NG_CHECK(static_cast<int64_t>(found->second.size()) == element_count(port.type.shape),
           "{} values for {} of {}", found->second.size(), port.name, to_string(port.type));
  return {port.type, reinterpret_cast<std::byte*>(found->second.data())};
}

Argument HostResults::argument(const Port& port) {
  Result& result = results_[port.name];
  result.type = port.type;
  result.bytes.resize(static_cast<size_t>(byte_count(port.type)));
  return {port.type, result.bytes.data()};
}

const std::byte* HostResults::row(const std::string& name, size_t at) const {
  const auto found = results_.find(name);
  check(found != results_.end(), "a module gives no {}: the bundle is damaged", name);
  return found->second.bytes.data() + at * row_bytes(found->second.type);
}

void HostResults::copy_rows(const std::string& name, const Rows& rows, const Argument& to) const {
  const std::byte* from = row(name, rows.from);
  const size_t bytes = row_bytes(to.type);
  NG_CHECK(bytes == row_bytes(results_.at(name).type), "{} as {}", name, to_string(to.type));
  std::memcpy(to.data + rows.to * bytes, from, rows.count * bytes);
}

void HostResults::candidates_of_row(const Rows& rows, const Argument& scores,
                                    const Argument& ids) const {
  best(reinterpret_cast<const float*>(row("scores", rows.from)),
       reinterpret_cast<const int32_t*>(row("ids", rows.from)),
       static_cast<size_t>(results_.at("scores").type.size(1)), rows, scores, ids);
}

void HostResults::best_of_logits(const Rows& rows, const Argument& scores,
                                 const Argument& ids) const {
  best(reinterpret_cast<const float*>(row("logits", rows.from)), nullptr,
       static_cast<size_t>(results_.at("logits").type.size(1)), rows, scores, ids);
}

}  // namespace ng
