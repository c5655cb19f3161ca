// The two larger parts of legalize: attention and the best of a vocabulary. Private to passes.
#pragma once

#include "ir/arithmetic.h"
#include "passes/passes.h"

namespace ng {

// The node `attend` (exact types; keys and values in shape.compute or f32) in primitives:
//   a history of several columns: each row reads the cache rows that it lists, or a region;
//   one column, the input memory_start: a sentence's rows read its slot of the memory;
//   another column: a sentence's rows read each other.
// [rows, d]
Value attend_exactly(const Arithmetic& a, const Node& attend, const StaticShape& shape);

bool is_cache(const Node& node);  // an input: caches and memory, while their rows are counted

// Of the `runs` equal runs of rows of `cache` [rows, d] those that input `name` s32[count] lists.
Value listed_runs(Graph& g, Value cache, int64_t runs, const std::string& name, int64_t count);

// The k best of each row of x f32[rows, n] with their columns, greater first and among equals the
// lower column first. Rows wider than kTopKWidth are cut into parts whose best compete.
struct Best {
  Value scores, ids;  // f32, s32 [rows, k]
};
Best best_of_rows(const Arithmetic& a, Value x, int64_t k);

}  // namespace ng
