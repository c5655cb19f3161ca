#include "compile/static_modules.h"

#include <algorithm>

#include "base/error.h"

namespace ng {
namespace {

constexpr int64_t kPrefillRows = 16;  // positions of a prompt that one run takes
constexpr int64_t kEdits = 16;        // candidates beyond what a plain search needs

std::vector<int64_t> checked_list(std::vector<int64_t> values, int64_t least, int64_t most,
                                  const char* option) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  check(!values.empty(), "{}: at least one number is needed", option);
  for (const int64_t value : values) {
    check(value >= least && value <= most, "{} {}: from {} to {}", option, value, least, most);
  }
  return values;
}

int64_t width_of(const Model& model) {
  const Graph graph = model.build("encode", Sizes{1, 1, 1, 1, 1, 1});
  return graph.type(*graph.find_output("hidden")).size(1);
}

Graph whole_phase(const Model& model, const PlannedModule& module, const StaticOptions& options) {
  const StaticSizes shared = static_sizes(model, options);
  Sizes sizes = {};
  sizes.tokens = sizes.rows = module.sentences * module.rows;
  sizes.context = shared.target;
  sizes.cache = shared.cache_rows();
  sizes.memory = shared.slots * shared.source;
  sizes.candidates = shared.candidates;
  const bool whole_rows = module.phase == "decode" && !options.device_candidates;
  return model.build(whole_rows ? "logits" : module.phase, sizes);
}

}  // namespace

StaticOptions checked(StaticOptions options) {
  constexpr int64_t kMostTokens = StaticSizes::kMostTokens;
  options.batches = checked_list(options.batches, 1, StaticSizes::kMostSlots, "--batch");
  options.source_lengths = checked_list(options.source_lengths, 1, kMostTokens, "--source-lengths");
  checked_list({options.beams}, 1, StaticSizes::kMostBeams, "--beams");
  checked_list({options.target_length}, 2, kMostTokens, "--target-length");  // one id: no history
  checked_list({options.ranks}, 1, kMostRanks, "--tp");
  check(options.source_lengths.back() >= 3,
        "--source-lengths {}: a source has a language, a token and an end: at least 3",
        options.source_lengths.back());
  return options;
}

StaticSizes static_sizes(const Model& model, const StaticOptions& options) {
  StaticSizes sizes;
  sizes.slots = options.batches.back();
  sizes.beams = options.beams;
  sizes.prefill_rows = kPrefillRows;
  sizes.source = options.source_lengths.back();
  sizes.target = options.target_length;
  const auto ends = static_cast<int64_t>(model.eos.size());
  if (options.device_candidates) {
    sizes.candidates = std::min(options.beams + ends + kEdits, model.vocabulary);
  }
  sizes.vocabulary = model.vocabulary;
  sizes.width = width_of(model);
  sizes.reorder = options.reorder ? 1 : 0;
  sizes.ranks = options.ranks;
  return sizes;
}

std::vector<PlannedModule> plan_modules(const StaticOptions& options) {
  std::vector<PlannedModule> modules;
  const auto add = [&](const char* phase, int64_t sentences, int64_t source, int64_t rows) {
    modules.push_back({fmt::format("{}-b{}-s{}-t{}{}", phase, sentences, source,
                                   options.target_length, options.ranks > 1 ? "-r0" : ""),
                       phase, sentences, rows});
  };
  for (const int64_t batch : options.batches) {
    for (const int64_t length : options.source_lengths) add("encode", batch, length, length);
  }
  const int64_t source = options.source_lengths.back();
  for (const int64_t batch : options.batches) add("prefill", batch, source, kPrefillRows);
  for (const int64_t batch : options.batches) add("decode", batch, source, options.beams);
  if (!options.with_logits) return modules;
  for (const int64_t batch : options.batches) add("logits", batch, source, options.beams);
  return modules;
}

Graph phase_of(const Model& model, const PlannedModule& module, const StaticOptions& options) {
  return shard(whole_phase(model, module, options), options.ranks);
}

LoweringOptions lowering_of(const Model& model, const PlannedModule& module,
                            const StaticOptions& options) {
  const StaticSizes shared = static_sizes(model, options);
  LoweringOptions lowering;
  lowering.weight_dtype = options.dtype;
  lowering.packed = false;
  lowering.shape = StaticShape{
      module.sentences, shared.slots,        model.pad + 1 + std::max(shared.source, shared.target),
      options.dtype,    options.with_logits, options.reorder ? shared.regions() : 0};
  return lowering;
}

Split lower_module(const Model& model, const PlannedModule& module, const StaticOptions& options) {
  const Graph whole = whole_phase(model, module, options);
  Split split = lower(shard(whole, options.ranks), lowering_of(model, module, options));
  if (options.ranks > 1) {
    split.prepare = prepare_of_ranks(split.prepare, whole, {model.vocabulary, options.ranks});
  }
  split.phase.name = module.name;
  return split;
}

}  // namespace ng
