#include "translate/buckets.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "translate/bucket_modules.h"

namespace ng {
namespace {

// The index of the smallest module for `sentences` of `rows`; of those with too few sentences the
// largest.
size_t smallest_fit(const std::vector<Bucket>& buckets, int64_t sentences, int64_t rows) {
  size_t best = buckets.size();
  const auto better = [&](const Bucket& a, const Bucket& b) {
    const bool a_holds = a.sentences >= sentences, b_holds = b.sentences >= sentences;
    if (a_holds != b_holds) return a_holds;
    if (a.sentences != b.sentences) return (a.sentences < b.sentences) == a_holds;
    return a.rows < b.rows;
  };
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i].rows < rows) continue;
    if (best == buckets.size() || better(buckets[i], buckets[best])) best = i;
  }
  check(best < buckets.size(), "no module has {} rows a sentence: the bundle is damaged", rows);
  return best;
}

class Encoder : public Executable {
 public:
  Encoder(std::vector<Bucket> buckets, const StaticSizes& sizes, Executions& executions)
      : modules_("encode", std::move(buckets), sizes, executions), parts_(sizes.parts()) {
    const Dim tokens(int64_t{1} << 20, Count::tokens);
    for (const char* name : {"tokens", "positions", "length", "memory_index"}) {
      inputs_.push_back({name, s32({tokens})});
    }
    inputs_.push_back({"start", s32({tokens, 1})});
    outputs_.push_back({"hidden", {DType::f32, {tokens, sizes.width}}});
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override;

 private:
  struct Sentence {
    size_t first = 0, tokens = 0;  // in the packed inputs
  };
  std::vector<Sentence> sentences(std::span<const Argument> inputs) const;
  void run_some(size_t at, std::span<const Sentence> some, std::span<const Argument> inputs,
                const Argument& hidden);

  Modules modules_;
  VocabularyParts parts_;
  std::vector<Port> inputs_, outputs_;
};

// Consecutive tokens that read one run; longest first, so that equals share a module.
std::vector<Encoder::Sentence> Encoder::sentences(std::span<const Argument> inputs) const {
  const std::span<const int32_t> start = integers(inputs[4]);
  std::vector<Sentence> found;
  for (size_t i = 0; i < start.size(); ++i) {
    if (i == 0 || start[i] != start[i - 1]) found.push_back({i, 0});
    ++found.back().tokens;
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Sentence& a, const Sentence& b) { return a.tokens > b.tokens; });
  return found;
}

void Encoder::run(std::span<const Argument> inputs, std::span<const Argument> outputs) {
  const std::vector<Sentence> all = sentences(inputs);
  size_t done = 0;
  while (done < all.size()) {
    const auto rows = static_cast<int64_t>(all[done].tokens);
    const auto left = static_cast<int64_t>(all.size() - done);
    const size_t at = smallest_fit(modules_.buckets(), left, rows);
    const auto count = static_cast<size_t>(std::min(left, modules_.buckets()[at].sentences));
    run_some(at, std::span(all).subspan(done, count), inputs, outputs[0]);
    done += count;
  }
}

// Tokens beyond a sentence's length write to its own slot, where nobody reads; sentences beyond the
// last repeat the first.
void Encoder::run_some(size_t at, std::span<const Sentence> some, std::span<const Argument> inputs,
                       const Argument& hidden) {
  const Bucket& bucket = modules_.load(at);
  const auto rows = static_cast<size_t>(bucket.rows);
  const std::span<const int32_t> length = integers(inputs[2]), index = integers(inputs[3]);
  Columns columns;
  for (int64_t s = 0; s < bucket.sentences; ++s) {
    const auto which = static_cast<size_t>(s) < some.size() ? static_cast<size_t>(s) : 0;
    const Sentence& sentence = some[which];
    for (size_t i = 0; i < rows; ++i) {
      const bool real = i < sentence.tokens;
      columns.add("tokens", real ? integers(inputs[0])[sentence.first + i] : 0);
      columns.add("positions", real ? integers(inputs[1])[sentence.first + i] : 0);
      columns.add("length", length[sentence.first]);
      columns.add("start", static_cast<int32_t>(static_cast<size_t>(s) * rows));
      columns.add("memory_index", index[sentence.first] + static_cast<int32_t>(i));
    }
  }
  HostResults results(parts_);
  modules_.run(at, columns, results);
  if (hidden.data == nullptr) return;
  for (size_t s = 0; s < some.size(); ++s) {
    results.copy_rows("hidden", {s * rows, some[s].first, some[s].tokens}, hidden);
  }
}

// Steps: prefill, decode, logits.
class Steps : public Executable {
 public:
  Steps(const std::string& phase, std::vector<Bucket> buckets, const StaticSizes& sizes,
        Executions& executions, BeamRegions& regions);
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override;

 private:
  using Row = BeamRegions::Row;
  // Rows of one run of one module: for each place the row of the request, or -1.
  struct Placed {
    size_t module = 0;
    std::vector<int32_t> slots;  // of each group; idle ones name another's
    std::vector<int64_t> rows;
    std::vector<int32_t> writes;          // for each place the row of the caches
    std::vector<int32_t> reads, parents;  // regions: of who reads together, of each region
  };
  Placed place(std::map<int32_t, std::vector<Row>>& waiting);
  void place_group(int32_t slot, size_t group, std::vector<Row>& waiting, Placed& placed);
  Columns columns(const Placed& placed, std::span<const Argument> inputs) const;
  void give(const Placed& placed, const HostResults& results,
            std::span<const Argument> outputs) const;

  Modules modules_;
  StaticSizes sizes_;
  BeamRegions& regions_;
  bool prefill_, host_candidates_ = false;
  std::vector<Port> inputs_, outputs_;
};

Steps::Steps(const std::string& phase, std::vector<Bucket> buckets, const StaticSizes& sizes,
             Executions& executions, BeamRegions& regions)
    : modules_(phase, std::move(buckets), sizes, executions),
      sizes_(sizes),
      regions_(regions),
      prefill_(phase == "prefill") {
  for (const Bucket& bucket : modules_.buckets()) {
    check(prefill_ || sizes.reorder == 0 || bucket.rows == sizes.beams,
          "module {} has {} rows a sentence for {} beams: the bundle is damaged", bucket.name,
          bucket.rows, sizes.beams);
  }
  const Dim rows(int64_t{1} << 16, Count::rows);
  for (const char* name : {"tokens", "positions", "length", "cache_index", "memory_length"}) {
    inputs_.push_back({name, s32({rows})});
  }
  inputs_.push_back({"memory_start", s32({rows, 1})});
  inputs_.push_back({"history", s32({rows, Dim(sizes.target, Count::context)})});
  if (phase == "decode") {
    const Dim k(sizes.candidates > 0 ? sizes.candidates : sizes.vocabulary, Count::candidates);
    outputs_ = {{"scores", {DType::f32, {rows, k}}}, {"ids", s32({rows, k})}};
    host_candidates_ = sizes.candidates == 0;
  }
  if (phase == "logits") outputs_ = {{"logits", {DType::f32, {rows, Dim(sizes.vocabulary)}}}};
  if (phase != "prefill") outputs_.push_back({"log_sum_exp", {DType::f32, {rows}}});
}

// Takes the next rows of every sentence that still has some, as many as a module takes.
Steps::Placed Steps::place(std::map<int32_t, std::vector<Row>>& waiting) {
  Placed placed;
  const auto count = static_cast<int64_t>(waiting.size());
  placed.module = smallest_fit(modules_.buckets(), count, 1);
  const Bucket& bucket = modules_.load(placed.module);
  const auto groups = static_cast<size_t>(bucket.sentences);
  placed.rows.assign(groups * static_cast<size_t>(bucket.rows), -1);
  placed.writes.assign(placed.rows.size(), sizes_.sink());
  placed.parents.resize(static_cast<size_t>(sizes_.regions()));
  std::iota(placed.parents.begin(), placed.parents.end(), 0);
  placed.reads.assign(prefill_ ? groups : placed.rows.size(), placed.parents.back());
  const bool own_place = bucket.sentences == sizes_.slots;  // group g is slot g
  for (auto& [slot, rows] : waiting) {
    if (placed.slots.size() == groups) break;
    place_group(slot, own_place ? static_cast<size_t>(slot) : placed.slots.size(), rows, placed);
    placed.slots.push_back(slot);
  }
  placed.slots.resize(groups, placed.slots[0]);
  std::erase_if(waiting, [](const auto& entry) { return entry.second.empty(); });
  return placed;
}

void Steps::place_group(int32_t slot, size_t group, std::vector<Row>& waiting, Placed& placed) {
  const auto most = static_cast<size_t>(modules_.buckets()[placed.module].rows);
  const bool reorder = sizes_.reorder != 0;
  std::vector<BeamRegions::Place> taken;
  if (reorder) taken = regions_.take(slot, waiting, most, prefill_, sizes_);
  for (size_t i = 0; !reorder && i < std::min(most, waiting.size()); ++i) {
    taken.push_back({waiting[i], 0, 0});
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    const auto& [row, region, parent] = taken[i];
    const bool own = reorder && !prefill_;  // place p of a group is the slot's region p
    const size_t at = group * most + (own ? static_cast<size_t>(region - slot * sizes_.beams) : i);
    const int64_t ordered = region * sizes_.target + std::ssize(row.history) - 1;
    placed.rows[at] = row.number;
    placed.writes[at] = reorder ? static_cast<int32_t>(ordered) : row.history.back();
    placed.reads[prefill_ ? group : at] = region;
    placed.parents[static_cast<size_t>(region)] = parent;
    std::erase_if(waiting, [&](const Row& one) { return one.number == taken[i].row.number; });
  }
}

Columns Steps::columns(const Placed& placed, std::span<const Argument> inputs) const {
  Columns columns;
  constexpr int32_t idle[] = {0, 0, 1, 0, 1, 0};  // in the order of inputs_
  const std::span<const int32_t> history = integers(inputs[6]);
  const int64_t context = inputs[6].type.size(1);
  for (const int64_t row : placed.rows) {
    for (size_t i = 0; i < std::size(idle); ++i) {
      const bool real = row >= 0;
      if (inputs_[i].name == "cache_index") continue;
      columns.add(inputs_[i].name, real ? integers(inputs[i])[static_cast<size_t>(row)] : idle[i]);
    }
    for (int64_t t = 0; t < sizes_.target; ++t) {
      const bool listed = row >= 0 && t < context;
      columns.add("history",
                  listed ? history[static_cast<size_t>(row * context + t)] : sizes_.sink());
    }
  }
  for (const auto& [name, values] :
       {std::pair("slot", &placed.slots), std::pair("cache_index", &placed.writes),
        std::pair("region", &placed.reads), std::pair("parent", &placed.parents)}) {
    for (const int32_t value : *values) columns.add(name, value);
  }
  return columns;
}

void Steps::give(const Placed& placed, const HostResults& results,
                 std::span<const Argument> outputs) const {
  for (size_t at = 0; at < placed.rows.size(); ++at) {
    if (placed.rows[at] < 0) continue;
    const Rows one{at, static_cast<size_t>(placed.rows[at]), 1};
    if (outputs.size() != 3) {
      results.logits_of_row(one, outputs[0]);
    } else if (host_candidates_) {
      results.best_of_logits(one, outputs[0], outputs[1]);
    } else {
      results.candidates_of_row(one, outputs[0], outputs[1]);
    }
    results.sum_of_row(one, outputs.back());
  }
}

void Steps::run(std::span<const Argument> inputs, std::span<const Argument> outputs) {
  std::map<int32_t, std::vector<Row>> waiting;  // by slot
  const std::span<const int32_t> start = integers(inputs[5]), length = integers(inputs[2]),
                                 index = integers(inputs[3]), history = integers(inputs[6]);
  const auto context = static_cast<size_t>(inputs[6].type.size(1));
  regions_.forget({index.begin(), index.end()});
  for (size_t row = 0; row < start.size(); ++row) {
    const int32_t slot = start[row] / static_cast<int32_t>(sizes_.source);
    NG_CHECK(slot < sizes_.slots, "slot {} of {}", slot, sizes_.slots);
    waiting[slot].push_back({static_cast<int64_t>(row),
                             history.subspan(row * context, static_cast<size_t>(length[row]))});
  }
  while (!waiting.empty()) {
    const Placed placed = place(waiting);
    Columns given = columns(placed, inputs);
    HostResults results(sizes_.parts());
    modules_.run(placed.module, given, results);
    if (!prefill_) give(placed, results, outputs);
  }
}

}  // namespace

std::unique_ptr<Executable> bucketed(const std::string& phase, std::vector<Bucket> buckets,
                                     const StaticSizes& sizes, Executions& executions,
                                     BeamRegions& regions) {
  if (phase == "encode") {
    return std::make_unique<Encoder>(std::move(buckets), sizes, executions);
  }
  return std::make_unique<Steps>(phase, std::move(buckets), sizes, executions, regions);
}

}  // namespace ng
