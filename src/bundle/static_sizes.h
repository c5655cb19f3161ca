// For which sizes are the modules of a static target built?
#pragma once

#include <cstdint>
#include <tuple>

#include "tensor/ranks.h"

namespace ng {

// What the modules of a bundle for a static target share (docs/neuron.md).
struct StaticSizes {
  static constexpr int64_t kMostSlots = 1024, kMostBeams = 64, kMostTokens = 8192;
  int64_t slots = 0;                  // sentences in memory at once
  int64_t beams = 0;                  // rows of a sentence in a step that chooses
  int64_t prefill_rows = 0;           // rows of a sentence in a prefill
  int64_t source = 0;                 // tokens of the longest source: rows of a slot
  int64_t target = 0;                 // positions that a row may read: the longest output
  int64_t candidates = 0;             // k of a step; 0: the host finds them in whole rows
  int64_t vocabulary = 0, width = 0;  // of the logits, of the hidden states
  int64_t ranks = 1;                  // devices that run a module together
  int64_t reorder = 0;                // 1: beams are put in order before a step; 0: histories
  bool operator==(const StaticSizes&) const = default;

  // One row more than the beams of every slot can fill, or one region of `target` rows: what unused
  // rows write to.
  int64_t regions() const { return slots * beams + 1; }
  int64_t cache_rows() const { return slots * beams * target + (reorder != 0 ? target : 1); }
  VocabularyParts parts() const { return {vocabulary, ranks}; }
  int32_t sink() const { return static_cast<int32_t>(slots * beams * target); }
};

// How the manifest names them, and how large they may be: memory, and row numbers in s32, hold all
// at their limits.
inline constexpr std::tuple<const char*, int64_t StaticSizes::*, int64_t> kStaticFields[] = {
    {"slots", &StaticSizes::slots, StaticSizes::kMostSlots},
    {"beams", &StaticSizes::beams, StaticSizes::kMostBeams},
    {"prefill_rows", &StaticSizes::prefill_rows, StaticSizes::kMostBeams},
    {"source", &StaticSizes::source, StaticSizes::kMostTokens},
    {"target", &StaticSizes::target, StaticSizes::kMostTokens},
    {"candidates", &StaticSizes::candidates, 4'000'000},
    {"vocabulary", &StaticSizes::vocabulary, 4'000'000},
    {"width", &StaticSizes::width, 65'536},
    {"ranks", &StaticSizes::ranks, kMostRanks},
    {"reorder", &StaticSizes::reorder, 1}};

}  // namespace ng
