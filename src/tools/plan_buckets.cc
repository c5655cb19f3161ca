// `neuroglot plan-buckets`: source lengths for --source-lengths, from sources as they come.
#include "compile/plan_buckets.h"

#include <charconv>

#include "base/error.h"
#include "tools/lines.h"
#include "tools/opened.h"

namespace ng {
namespace {

constexpr int64_t kFrame = 2;  // the language and </s>

int64_t length_in(const std::string& text) {
  std::string_view digits = text;
  if (digits.ends_with('\r')) digits.remove_suffix(1);
  int64_t length = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, length);
  check(error == std::errc() && stop == end && length >= 1 && length <= kLongestCounted,
        "\"{}\" is no length: a line has one whole number from 1 to {}", shown(text, 40),
        kLongestCounted);
  return length;
}

// `length` of every line, 0: the line is no source.
template <class Length>
LengthCounts counted(const std::string& file, Length length) {
  LengthCounts counts;
  each_line(file, [&](const Line& line) {
    if (const int64_t tokens = length(line.text); tokens > 0) ++counts[tokens];
  });
  check(!counts.empty(), "{}: has no sources", file);
  return counts;
}

// Of a bundle, or of a directory as it was downloaded: nothing is compiled for it.
Tokenizer tokenizer_of(const std::string& model) {
  return is_bundle(model) ? open_tokenizer(Bundle::open(model)) : Tokenizer::open(model);
}

LengthCounts read_counts(const Options& options) {
  const bool lengths = options.is_given("--lengths"), text = options.is_given("--text");
  check(lengths != text, "plan-buckets needs one of --lengths FILE and --text FILE");
  if (lengths) {
    check(options.model.empty(), "--model is for --text: lengths need no tokenizer");
    return counted(options.lengths, length_in);
  }
  check(!options.model.empty(), "--text needs --model: whose tokenizer counts");
  const Tokenizer tokenizer = tokenizer_of(options.model);
  return counted(options.text, [&](const std::string& line) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) return int64_t{0};
    return static_cast<int64_t>(tokenizer.encode_content(line).size()) + kFrame;
  });
}

}  // namespace

int plan_buckets_command(const Options& options) {
  check(options.is_given("--graphs"), "plan-buckets needs --graphs: how many lengths at most");
  const LengthCounts counts = read_counts(options);
  const LengthCounts run = as_run(counts, options.max_source_tokens);
  const std::vector<int64_t> buckets = plan_buckets(run, options.graphs);
  const std::vector<int64_t> standard = StaticOptions().source_lengths;
  const LengthCounts run_standard = as_run(counts, standard.back());
  fmt::print("--source-lengths {}\n", fmt::join(buckets, ","));
  fmt::print("padding: {:.2f} % of the encoder's tokens\n", 100 * padding_of(run, buckets).share());
  fmt::print("padding with --source-lengths {}: {:.2f} %\n", fmt::join(standard, ","),
             100 * padding_of(run_standard, standard).share());
  return 0;
}

}  // namespace ng
