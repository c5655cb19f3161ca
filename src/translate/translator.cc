#include "translate/translator.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "text/split.h"
#include "text/utf8.h"

namespace ng {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Blanks at both ends, apart from what stands between them.
struct Trimmed {
  std::string_view before, middle, after;
};

Trimmed trim(std::string_view text) {
  size_t begin = 0;
  for (Scalar next; begin < text.size() && is_blank((next = decode_utf8(text, begin)).code);) {
    begin += next.size;
  }
  size_t end = begin;  // behind the last character that is no blank
  for (size_t at = begin; at < text.size();) {
    const Scalar next = decode_utf8(text, at);
    at += next.size;
    if (!is_blank(next.code)) end = at;
  }
  return {text.substr(0, begin), text.substr(begin, end - begin), text.substr(end)};
}

}  // namespace

// A request on its way: its pieces' jobs are [first, first + pieces).
struct Translator::Text {
  std::string before, after, error;
  std::vector<std::string> warnings;
  size_t first = 0;
  std::vector<bool> cut_at_blank;  // of each piece
};

// One job for every piece of `middle`.
void Translator::add_pieces(const TextRequest& request, std::string_view middle,
                            const TranslateOptions& options, std::vector<Job>& jobs,
                            Text& text) const {
  const int32_t from = tokenizer_.language_id(request.from);
  GenerationOptions search = search_;
  search.forced_bos_token_id = tokenizer_.language_id(request.to);
  const std::vector<int32_t> prompt = {search.decoder_start_token_id};
  resolve(search, prompt.size());
  for (const TextPiece& piece :
       split_to_fit(tokenizer_, middle, static_cast<size_t>(options.max_source_tokens) - 2)) {
    jobs.push_back({tokenizer_.frame(tokenizer_.encode_content(piece.text), from),
                    {},
                    BeamSearch(search, prompt, replicas_.first().vocabulary()),
                    ""});
    text.cut_at_blank.push_back(piece.cut_at_blank);
  }
}

Translator::Text Translator::prepare(const TextRequest& request, const TranslateOptions& options,
                                     std::vector<Job>& jobs) const {
  Text text;
  const size_t jobs_before = jobs.size();
  try {
    std::string repaired;
    std::string_view view = request.text;
    if (!is_valid_utf8(view)) {
      text.warnings.push_back("invalid UTF-8 is read as U+FFFD");
      view = repaired = repair_utf8(view);
    }
    if (view.find('\0') != std::string_view::npos) {
      if (repaired.empty()) repaired = view;
      std::replace(repaired.begin(), repaired.end(), '\0', ' ');
      view = repaired;
    }
    const Trimmed trimmed = trim(view);
    text.before = trimmed.before;
    text.after = trimmed.after;
    text.first = jobs.size();
    if (trimmed.middle.empty()) {
      text.before = request.text;  // the same bytes
      text.after.clear();
      return text;
    }
    add_pieces(request, trimmed.middle, options, jobs, text);
    if (text.cut_at_blank.size() > 1) {
      text.warnings.push_back(fmt::format("more than {} source tokens: translated in {} pieces",
                                          options.max_source_tokens, text.cut_at_blank.size()));
    }
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::User) throw;
    jobs.erase(jobs.begin() + static_cast<long>(jobs_before), jobs.end());
    text.error = error.what();
  }
  return text;
}

Translated Translator::finish(const Text& text, const std::vector<Job>& jobs, int n_best) {
  Translated out;
  out.warnings = text.warnings;
  out.error = text.error;
  const size_t pieces = text.cut_at_blank.size();
  for (size_t i = 0; i < pieces && out.error.empty(); ++i) out.error = jobs[text.first + i].error;
  if (!out.error.empty()) return out;
  out.translations.resize(static_cast<size_t>(n_best));
  for (Translation& translation : out.translations) translation.text = text.before;
  bool cut_short = false;
  for (size_t i = 0; i < pieces; ++i) {
    const Job& job = jobs[text.first + i];
    const std::vector<Hypothesis> found = job.search.results();
    measured_.input_tokens += job.source.size();
    for (size_t n = 0; n < out.translations.size(); ++n) {
      Translation& translation = out.translations[n];
      const Hypothesis& best = found.at(n);
      measured_.output_tokens += best.ids.size() - job.search.prompt().size();
      translation.text += tokenizer_.decode(best.ids);
      if (text.cut_at_blank[i]) translation.text += ' ';
      translation.score += best.score;
      if (best.reason == FinishReason::Length) translation.reason = FinishReason::Length;
      cut_short = cut_short || best.reason == FinishReason::Length;
    }
  }
  if (cut_short) out.warnings.push_back("a translation was ended by max_length");
  for (Translation& translation : out.translations) translation.text += text.after;
  return out;
}

std::vector<Translated> Translator::translate(const std::vector<TextRequest>& requests,
                                              const TranslateOptions& options) {
  measured_ = {};
  const double start = seconds();
  std::vector<Job> jobs;
  std::vector<Text> texts;
  for (const TextRequest& request : requests) texts.push_back(prepare(request, options, jobs));
  const double tokenized = seconds();
  replicas_.run(jobs, options.batch);
  const double generated = seconds();
  std::vector<Translated> out;
  for (const Text& text : texts) out.push_back(finish(text, jobs, options.n_best));
  measured_.tokenize_seconds = tokenized - start + seconds() - generated;
  measured_.generate_seconds = generated - tokenized;
  return out;
}

}  // namespace ng
