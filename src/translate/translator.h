// Text to text: a bundle, its tokenizer and a search behind one call.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "translate/batch.h"

namespace ng {

struct TextRequest {
  std::string text;      // one segment: NLLB drops sentences when there are several
  std::string from, to;  // language codes
};

struct Translation {
  std::string text;
  float score = 0;  // sum of log-probabilities / length^length_penalty; of pieces: their sum
  FinishReason reason = FinishReason::Eos;
};

struct TranslateOptions {
  int64_t max_source_tokens = 512;  // language and </s> included; longer texts are cut in pieces
  int n_best = 1;
  BatchOptions batch;
};

// What became of a text: its translations, best first, or an error; warnings in either case.
struct Translated {
  std::vector<Translation> translations;
  std::vector<std::string> warnings;
  std::string error;
};

class Translator {
 public:
  // The search's defaults: those of the checkpoint with whatever the caller changed. All must
  // outlive the translator.
  Translator(Replicas& replicas, const Tokenizer& tokenizer, GenerationOptions search)
      : replicas_(replicas), tokenizer_(tokenizer), search_(std::move(search)) {}

  // Blanks around a text are taken off and put back; a blank text is its own translation, n_best
  // times. Invalid UTF-8 becomes U+FFFD with a warning, NUL a space. Nothing is cut off: texts too
  // long are translated in pieces, with a warning. What concerns one text goes to its error.
  std::vector<Translated> translate(const std::vector<TextRequest>& requests,
                                    const TranslateOptions& options);

  // Of the last call.
  struct Measured {
    double tokenize_seconds = 0, generate_seconds = 0;
    uint64_t input_tokens = 0, output_tokens = 0;
  };
  const Measured& measured() const { return measured_; }

 private:
  struct Text;
  Text prepare(const TextRequest& request, const TranslateOptions& options,
               std::vector<Job>& jobs) const;
  void add_pieces(const TextRequest& request, std::string_view middle,
                  const TranslateOptions& options, std::vector<Job>& jobs, Text& text) const;
  Translated finish(const Text& text, const std::vector<Job>& jobs, int n_best);

  Replicas& replicas_;
  const Tokenizer& tokenizer_;
  GenerationOptions search_;
  Measured measured_;
};

}  // namespace ng
