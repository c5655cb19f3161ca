// How is a model split among ranks, the devices that run one program together on their own parts?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace ng {

inline constexpr int64_t kMostRanks = 64;

// What a tensor that each of several ranks has a part of is called; one that all share has the name
// itself, and so has every tensor of one rank.
inline std::string rank_name(const std::string& name, int64_t rank, int64_t ranks) {
  return ranks == 1 ? name : name + ".r" + std::to_string(rank);
}
inline std::string shared_name(const std::string& own) { return own.substr(0, own.rfind(".r")); }

// What every rank has, one after the other along the first axis.
inline Type of_ranks(Type type, int64_t ranks) {
  if (ranks != 1) type.shape.at(0).size *= ranks;
  return type;
}
inline Tensor of_ranks(std::span<const Tensor> parts) {
  if (parts.size() == 1) return parts[0];
  std::vector<std::byte> bytes;
  for (const Tensor& part : parts) bytes.insert(bytes.end(), part.data.begin(), part.data.end());
  return Tensor::own(of_ranks(parts[0].type, std::ssize(parts)), std::move(bytes));
}

// Ids are dealt in runs: rank r has those from r · ids() on, as the first of rows() rows; the rows
// behind are zeros and banned. All parts together are a multiple of 16 · ranks, and the last row of
// each is a banned one, which stands for the ids of other ranks.
struct VocabularyParts {
  int64_t vocabulary = 0, ranks = 1;

  int64_t rows() const {
    const int64_t together = 16 * ranks;
    return ranks == 1 ? vocabulary : (vocabulary + ranks + together - 1) / together * 16;
  }
  int64_t ids() const { return ranks == 1 ? vocabulary : rows() - 1; }  // of a full part
  int64_t first(int64_t rank) const { return rank * ids(); }
  int64_t held(int64_t rank) const {  // how many ids
    const int64_t left = vocabulary - first(rank);
    return left < 0 ? 0 : left < ids() ? left : ids();
  }
};

}  // namespace ng
