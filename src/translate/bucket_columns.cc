#include "translate/bucket_columns.h"

#include <algorithm>
#include <cmath>
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
  check(found != values_.end() && port.type.dtype == DType::s32,
        "a module reads {} as {}: the bundle is damaged", shown(port.name), to_string(port.type));
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

std::span<const std::byte> HostResults::rows(const std::string& name, int64_t rank,
                                             const Rows& which) const {
  const auto found = results_.find(name);
  check(found != results_.end() && found->second.type.rank() > 0,
        "a module gives no {}: the bundle is damaged", name);
  const auto& [type, all] = found->second;
  const auto each = static_cast<size_t>(type.size(0) / parts_.ranks);
  const size_t end = which.from + which.count, bytes = row_bytes(type);
  check(end <= each, "a module gives {} rows of {}, not {}: the bundle is damaged", each, name,
        end);
  return std::span(all).subspan((size_t(rank) * each + which.from) * bytes, which.count * bytes);
}

void HostResults::copy_rows(const std::string& name, const Rows& rows, const Argument& to) const {
  const std::span<const std::byte> from = this->rows(name, 0, rows);
  const size_t bytes = row_bytes(to.type);
  check(from.size() == rows.count * bytes, "a module gives {} as {}, not {}: the bundle is damaged",
        name, to_string(results_.at(name).type), to_string(to.type));
  std::memcpy(to.data + rows.to * bytes, from.data(), from.size());
}

template <class T>
std::span<const T> HostResults::row_of(const std::string& name, int64_t rank, size_t at) const {
  const std::span<const std::byte> row = rows(name, rank, {at, 0, 1});
  return {reinterpret_cast<const T*>(row.data()), row.size() / sizeof(T)};
}

void HostResults::candidates_of_row(const Rows& row, const Argument& scores,
                                    const Argument& ids) const {
  std::vector<float> all;
  std::vector<int32_t> named;
  for (int64_t rank = 0; rank < parts_.ranks; ++rank) {
    const auto found = row_of<int32_t>("ids", rank, row.from);
    const auto of = row_of<float>("scores", rank, row.from);
    for (size_t i = 0; i < found.size(); ++i) {
      if (found[i] < 0 || found[i] >= parts_.rows()) {
        throw Error(Error::Kind::Device,
                    fmt::format("the device gave id {} as a candidate, the vocabulary has {} ids",
                                found[i], parts_.rows()));
      }
      if (found[i] >= parts_.held(rank)) continue;  // banned
      all.push_back(of[i]);
      named.push_back(found[i] + static_cast<int32_t>(parts_.first(rank)));
    }
  }
  best(all.data(), named.data(), all.size(), row, scores, ids);
}

std::vector<float> HostResults::whole_row(size_t at) const {
  std::vector<float> all;
  for (int64_t rank = 0; rank < parts_.ranks; ++rank) {
    const auto own =
        row_of<float>("logits", rank, at).first(static_cast<size_t>(parts_.held(rank)));
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

void HostResults::best_of_logits(const Rows& row, const Argument& scores,
                                 const Argument& ids) const {
  const std::vector<float> all = whole_row(row.from);
  best(all.data(), nullptr, all.size(), row, scores, ids);
}

void HostResults::logits_of_row(const Rows& row, const Argument& logits) const {
  const std::vector<float> all = whole_row(row.from);
  std::memcpy(logits.data + row.to * row_bytes(logits.type), all.data(), row_bytes(logits.type));
}

// Sums of ranks are put together in their order: log(sum of exp(x - most)) + most.
void HostResults::sum_of_row(const Rows& row, const Argument& log_sum_exp) const {
  std::vector<double> parts;
  for (int64_t rank = 0; rank < parts_.ranks; ++rank) {
    parts.push_back(row_of<float>("log_sum_exp", rank, row.from)[0]);
  }
  const double most = *std::max_element(parts.begin(), parts.end());
  double sum = 0;
  for (const double part : parts) sum += std::exp(part - most);
  const auto whole = static_cast<float>(parts.size() == 1 ? most : most + std::log(sum));
  std::memcpy(log_sum_exp.data + row.to * sizeof whole, &whole, sizeof whole);
}

}  // namespace ng
