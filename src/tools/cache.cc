// `neuroglot cache` and `neuroglot make-checkpoint`: directories made and removed.
#include "compile/cache.h"

#include "base/error.h"
#include "models/make_checkpoint.h"
#include "text/languages.h"
#include "tools/options.h"

namespace ng {

int cache_command(const Options& options) {
  if (options.action == "clear") {
    const Cleared cleared = clear_cache();
    fmt::print("{} bundles removed, {} MB; {} in use\n", cleared.removed, cleared.bytes >> 20,
               cleared.in_use);
    return 0;
  }
  for (const CacheEntry& entry : cache_entries()) {
    fmt::print("{}\t{} MB\t{}\n", entry.path.string(), entry.bytes >> 20, entry.label);
  }
  return 0;
}

int make_checkpoint_command(const Options& options) {
  CheckpointRecipe recipe;
  check(!options.shape.empty(), "make-checkpoint needs --shape; there are {}",
        fmt::join(checkpoint_shapes(), ", "));
  recipe.shape = options.shape;
  check(options.format == "bin" || options.format == "safetensors",
        "--format {}: bin or safetensors", shown(options.format));
  recipe.format = options.format == "bin" ? WeightFormat::bin : WeightFormat::safetensors;
  const bool known = dtype_from_name(options.dtype, recipe.dtype);
  check(known && (recipe.dtype == DType::f32 || recipe.dtype == DType::f16 ||
                  recipe.dtype == DType::bf16),
        "--dtype {}: f32, f16 or bf16", shown(options.dtype));
  recipe.shards = static_cast<size_t>(options.shards);
  recipe.seed = static_cast<uint64_t>(options.seed);
  for (const Language& language : nllb_languages()) recipe.languages.emplace_back(language.code);
  Progress progress(options.quiet);
  uint64_t before = 0;
  recipe.progress = [&](uint64_t done, uint64_t total) {
    if (before == 0) progress.begin("weights", total);
    progress.advance(done - before);
    before = done;
  };
  make_checkpoint(recipe, options.output);
  return 0;
}

}  // namespace ng
