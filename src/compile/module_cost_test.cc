#include "compile/module_cost.h"

#include "ir/arithmetic.h"
#include "ir/test_run.h"

namespace ng {
namespace {

Value clamped(Graph& g, Value index, double most) {
  const Arithmetic a{g};
  return a.op(Op::minimum, a.op(Op::maximum, index, 0.0), most);
}

// rows [3, 4] of a table [5, 4] times a matrix [n, 4], which may be the table
ModuleCost embedded(bool tied) {
  Graph g("embedded");
  const Value ids = input(g, "ids", {DType::s32, {3}});
  const Value table = weight(g, "table", {DType::f32, {5, 4}});
  const Value matrix = tied ? table : weight(g, "matrix", {DType::f32, {6, 4}});
  g.outputs.push_back({"y", dot(g, gather_rows(g, table, clamped(g, ids, 4)), matrix)});
  return cost_of(g);
}

TEST(ModuleCost, OfAGatherAndAProduct) {
  const ModuleCost cost = embedded(false);
  EXPECT_EQ(cost.flops, 2 * 3 * 4 * 6);
  EXPECT_EQ(cost.weight_bytes, 4 * (5 * 4 + 6 * 4));
  EXPECT_EQ(cost.read_bytes, 4 * (3 * 4 + 6 * 4));  // three rows of one, all of the other
  EXPECT_EQ(cost.state_bytes, 0);
  EXPECT_EQ(cost.io_bytes, 4 * (3 + 3 * 6));
  EXPECT_EQ(cost.temporary_bytes, 4 * (3 + 3 * 4));  // the index and the rows; y is an output
  EXPECT_EQ(cost.past.history_bytes, 0);
}

TEST(ModuleCost, OfAWeightThatIsReadInTwoWays) {
  const ModuleCost cost = embedded(true);
  EXPECT_EQ(cost.weight_bytes, 4 * 5 * 4);
  EXPECT_EQ(cost.read_bytes, 4 * (3 * 4 + 5 * 4));
}

// Two rows that read five each of a cache [10, 4].
TEST(ModuleCost, OfACacheThatIsWrittenAndGatheredFrom) {
  Graph g("step");
  const Value cache = input(g, "keys", {DType::f32, {10, 4}});
  const Value index = input(g, "index", {DType::s32, {2}});
  const Value history = input(g, "history", {DType::s32, {2, 5}});
  const Arithmetic a{g};
  const Value rows = a.fill(1, {DType::f32, {2, 4}});
  const Value written = write_rows(g, cache, rows, clamped(g, index, 9));
  const Value past = gather_rows(g, written, clamped(g, history, 9));
  g.outputs.push_back({"keys", written});
  g.outputs.push_back({"sums", reduce(g, Op::reduce_sum, past)});
  const ModuleCost cost = cost_of(g);
  const int64_t all = 4 * 10 * 4, gathered = 4 * 2 * 5 * 4;
  EXPECT_EQ(cost.state_bytes, all);
  EXPECT_EQ(cost.read_bytes, gathered);
  EXPECT_EQ(cost.past.history_bytes, 3 * gathered);
  EXPECT_EQ(cost.past.reorder_bytes, 2 * all + gathered);
  EXPECT_EQ(cost.past.history_copies, 2 * 5);
  EXPECT_EQ(cost.past.reorder_copies, 2);
  EXPECT_EQ(cost.io_bytes, 4 * (2 + 10 + 2 * 5));  // the state's own output is no other memory
  EXPECT_EQ(cost.temporary_bytes, gathered + 4 * 2 * 5);
}

// A cache [3 · 4, 4] whose runs of four rows are put in order, then written; two of them are read.
TEST(ModuleCost, OfACacheThatIsReordered) {
  Graph g("step");
  const Value cache = input(g, "keys", {DType::f32, {12, 4}});
  const Value parent = input(g, "parent", {DType::s32, {3}});
  const Value runs = gather_rows(g, reshape(g, cache, {3, 16}), parent);
  const Arithmetic a{g};
  const Value written = write_rows(g, reshape(g, runs, {12, 4}), a.fill(1, {DType::f32, {3, 4}}),
                                   input(g, "index", {DType::s32, {3}}));
  const Value two = gather_rows(g, reshape(g, written, {3, 16}), input(g, "x", {DType::s32, {2}}));
  g.outputs = {{"keys.next", written}, {"sums", reduce(g, Op::reduce_sum, two)}};
  const ModuleCost cost = cost_of(g);
  const int64_t all = 4 * 12 * 4, read = 4 * 2 * 16;
  EXPECT_EQ(cost.state_bytes, 2 * all);
  EXPECT_EQ(cost.read_bytes, all + read);
  EXPECT_EQ(cost.io_bytes, 4 * (3 + 3 + 2 + 2));
  EXPECT_EQ(cost.temporary_bytes, read);  // the caches are states
}

// What is turned of a cache is a copy; of a weight it is the way it lies.
TEST(ModuleCost, OfWhatIsTransposed) {
  Graph g("turned");
  const Value memory = input(g, "memory", {DType::bf16, {6, 4}});
  const Value matrix = transpose(g, weight(g, "matrix", {DType::bf16, {6, 5}}), {1, 0});
  const Value turned = transpose(g, memory, {1, 0});
  g.outputs.push_back({"y", dot(g, turned, matrix)});
  const ModuleCost cost = cost_of(g);
  EXPECT_EQ(cost.temporary_bytes, 2 * 6 * 4);
  EXPECT_EQ(cost.read_bytes, 2 * (6 * 4 + 6 * 5));
}

}  // namespace
}  // namespace ng
