#include "tools/opened.h"

#include <chrono>
#include <tuple>

#include "base/error.h"
#include "base/machine.h"

namespace ng {
namespace {

// One number, or with --repeat the list of them.
Json times(const std::vector<double>& seconds, const Options& options) {
  if (!options.is_given("--repeat")) return seconds.at(0);
  return seconds;
}

}  // namespace

double seconds_now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

CompileOptions compile_options(const Options& options) {
  CompileOptions compile;
  compile.target = options.target;
  check(options.dtype == "f32" || options.dtype == "bf16", "--dtype {}: f32 or bf16",
        shown(options.dtype));
  compile.dtype = options.dtype == "bf16" ? DType::bf16 : DType::f32;
  compile.force = options.force;
  compile.threads = static_cast<int>(options.threads);
  return compile;
}

void check_as_compiled(const Options& options, const Bundle& bundle) {
  const std::string dtype(name(bundle.dtype()));
  for (const auto& [flag, asked, has] : {std::tuple{"--dtype", options.dtype, dtype},
                                         std::tuple{"--target", options.target, bundle.target()}}) {
    check(!options.is_given(flag) || asked == has,
          "{} {}: {} is a bundle, compiled with {}: leave {} out, or compile again", flag,
          shown(asked), options.model, has, flag);
  }
}

Bundle open_bundle(const Options& options, std::optional<CachedBundle>& cached) {
  if (is_bundle(options.model)) {
    Bundle bundle = Bundle::open(options.model);
    check_as_compiled(options, bundle);
    return bundle;
  }
  Progress progress(options.quiet);
  cached.emplace(cached_bundle(options.model, compile_options(options), progress));
  return cached->bundle;
}

Phases phases_of(const Bundle& bundle) {
  return {bundle.facts().vocabulary, bundle.facts().pad,
          [&bundle](const std::string& phase) { return checked_artifact(bundle, phase); },
          [&bundle](const std::string& name) { return bundle.weight(name); }};
}

std::unique_ptr<Opened> open_session(const Options& options) {
  const double start = seconds_now();
  std::optional<CachedBundle> cached;
  Bundle bundle = open_bundle(options, cached);
  auto opened =
      std::unique_ptr<Opened>(new Opened{std::move(cached), std::move(bundle), {}, {}, {}, 0});
  const Backend& backend = find_backend(opened->bundle.target());
  opened->device = backend.open({static_cast<int>(options.threads)});
  opened->session = std::make_unique<Session>(phases_of(opened->bundle), *opened->device);
  opened->load_seconds = seconds_now() - start;
  return opened;
}

std::unique_ptr<Opened> open_for(const Options& options) {
  auto opened = open_session(options);
  const Json& generation = opened->bundle.generation_config();
  opened->defaults =
      defaults_from(opened->bundle.config(), generation.is_null() ? nullptr : &generation);
  return opened;
}

Tokenizer open_tokenizer(const Bundle& bundle) {
  check(bundle.has_tokenizer() || !bundle.manifest().at("sources").contains("vocab.json"),
        "this model was compiled without a tokenizer: its directory has M2M100's vocab.json and "
        "sentencepiece.bpe.model, which are not read, and no tokenizer.json; generate and forward "
        "work without");
  check(bundle.has_tokenizer(),
        "this model was compiled without a tokenizer: its directory had neither tokenizer.json nor "
        "sentencepiece.bpe.model; add one and compile again (generate and forward work without)");
  return Tokenizer::parse(bundle.tokenizer_bytes(), "tokenizer");
}

void write_stats(const Options& options, const Stats& stats) {
  if (options.stats.empty()) return;
  const Json json = {{"load_seconds", stats.load_seconds},
                     {"tokenize_seconds", times(stats.tokenize_seconds, options)},
                     {"generate_seconds", times(stats.generate_seconds, options)},
                     {"input_tokens", stats.input_tokens},
                     {"output_tokens", stats.output_tokens},
                     {"peak_rss_bytes", peak_resident_bytes()},
                     {"anonymous_bytes", anonymous_bytes()}};
  write_file(options.stats, json.dump(2) + "\n");
}

}  // namespace ng
