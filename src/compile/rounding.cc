#include "compile/rounding.h"

#include <algorithm>

#include "base/error.h"
#include "compile/bundle_session.h"
#include "compile/cache.h"
#include "compile/recording.h"
#include "text/chrf.h"
#include "text/split.h"
#include "text/utf8.h"

namespace ng {
namespace {

std::vector<Job> jobs_of(const Bundle& bundle, const Tokenizer& tokenizer,
                         const std::vector<TextRequest>& requests) {
  const Json& generation = bundle.generation_config();
  GenerationOptions options =
      defaults_from(bundle.config(), generation.is_null() ? nullptr : &generation);
  options.num_beams = options.num_return_sequences = 1;
  resolve(options, 1);
  std::vector<Job> jobs;
  for (const TextRequest& request : requests) {
    options.forced_bos_token_id = tokenizer.language_id(request.to);
    const std::string text = repair_utf8(request.text);
    const auto most = static_cast<size_t>(TranslateOptions().max_source_tokens) - 2;
    for (const TextPiece& piece : split_to_fit(tokenizer, text, most)) {  // as translate does
      jobs.push_back(
          {tokenizer.frame(tokenizer.encode_content(piece.text),
                           tokenizer.language_id(request.from)),
           {},
           BeamSearch(options, {options.decoder_start_token_id}, bundle.facts().vocabulary),
           ""});
    }
  }
  return jobs;
}

// Modules that hold every job, eight at a time: weights are read once for all.
CompileOptions module_options(const std::vector<Job>& jobs) {
  CompileOptions options;
  options.targets = {"pjrt"};
  options.modules.batches = {8};
  options.modules.beams = 1;
  options.modules.target_length = jobs.at(0).search.max_length();
  size_t longest = 0;
  for (const Job& job : jobs) longest = std::max(longest, job.source.size());
  auto& lengths = options.modules.source_lengths = {16};
  while (lengths.back() < static_cast<int64_t>(longest)) lengths.push_back(2 * lengths.back());
  return options;
}

// Without the start.
std::vector<std::vector<int32_t>> translate_all(const Bundle& bundle, Device& device,
                                                std::vector<Job> jobs, Progress& progress) {
  progress.say(fmt::format("{} sentences on {}", jobs.size(), device.description()));
  Executions executions;
  const std::string target = *bundle.targets().begin();
  run_jobs(*open_session(bundle, target, {device}, executions), jobs, {});
  std::vector<std::vector<int32_t>> found;
  for (const Job& job : jobs) {
    check(job.error.empty(), "{}", job.error);
    const std::vector<int32_t> ids = job.search.results().at(0).ids;
    found.emplace_back(ids.begin() + 1, ids.end());
  }
  return found;
}

}  // namespace

Json compare_rounded(const Path& model, DType dtype, const std::vector<TextRequest>& requests,
                     int threads, Progress& progress) {
  const CachedBundle plain = cached_bundle(model, {}, progress);
  check(plain.bundle.has_tokenizer(), "{}: has no tokenizer: it reads no texts", model.string());
  const Tokenizer tokenizer = Tokenizer::parse(plain.bundle.tokenizer_bytes());
  const std::vector<Job> jobs = jobs_of(plain.bundle, tokenizer, requests);
  CompileOptions options = module_options(jobs);
  options.dtype = dtype;
  const CachedBundle rounded = cached_bundle(model, options, progress);
  ThreadPool pool(threads > 0 ? threads : available_threads());
  ModuleInterpreter interpreter(pool);
  const auto expected =
      translate_all(plain.bundle, *find_backend("cpu").open({threads}), jobs, progress);
  const auto found = translate_all(rounded.bundle, interpreter, jobs, progress);
  std::vector<std::string> texts, references;
  size_t tokens = 0, same_tokens = 0, same_sentences = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const auto &a = expected[i], &b = found[i];
    same_sentences += a == b ? 1 : 0;
    tokens += std::max(a.size(), b.size());
    for (size_t at = 0; at < std::min(a.size(), b.size()); ++at) same_tokens += a[at] == b[at];
    texts.push_back(tokenizer.decode(b));
    references.push_back(tokenizer.decode(a));
  }
  return {{"as", name(dtype)}, {"sentences", jobs.size()},    {"sentences_equal", same_sentences},
          {"tokens", tokens},  {"tokens_equal", same_tokens}, {"chrf++", chrf(texts, references)}};
}

}  // namespace ng
