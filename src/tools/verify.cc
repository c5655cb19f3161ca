// `neuroglot verify`: the report, as lines or JSON.
#include "compile/verify.h"

#include <algorithm>

#include "base/error.h"
#include "compile/rounding.h"
#include "tools/lines.h"
#include "tools/opened.h"

namespace ng {
namespace {

void print_report(const VerifyReport& report) {
  if (!report.modules.empty()) {
    fmt::print("{}: modules against the interpreter\n", report.device);
    for (const auto& [module, error] : report.modules)
      fmt::print("  {:24} {:.2e}\n", module, error);
  }
  if (report.nodes > 0 || report.modules.empty()) {
    fmt::print("{}: {} nodes are the interpreter's, byte for byte, or listed below\n",
               report.modules.empty() ? report.device : "segments on the CPU", report.nodes);
  }
  if (report.referenced) {
    fmt::print("{} tensors compared with those made of the reference\n", report.tensors);
    for (const auto& [tap, error] : report.precision) fmt::print("  {:12} {:.2e}\n", tap, error);
    if (report.precision.empty()) {
      fmt::print("no logits compared: {}\n",
                 report.modules.empty() ? "the vocabularies differ"
                                        : "the bundle has no modules for them (--with-logits)");
    }
    fmt::print("{} of {} tokens are the reference's, {} of them near ties\n", report.tokens_equal,
               report.tokens, report.ties);
    fmt::print("{} of {} texts are the reference's\n", report.texts_equal, report.texts);
  }
  for (const Finding& finding : report.findings) {
    fmt::print("{}: {}: {}\n", finding.level, finding.where, finding.what);
  }
}

// Prints the report and leaves it in the bundle: 0, or a Verification error.
int tell(const VerifyReport& report, const Options& options) {
  if (options.json) {
    fmt::print("{}\n", to_json(report).dump(2));
  } else {
    print_report(report);
  }
  if (is_bundle(options.model)) {
    try {
      write_file(Path(options.model) / "verification.json", to_json(report).dump(2) + "\n");
    } catch (const Error& error) {  // a bundle that is mounted read-only is verified as well
      Progress(options.quiet).say(fmt::format("warning: {}", error.what()));
    }
  }
  if (report.findings.empty()) return 0;
  const Finding& first = report.findings.front();
  throw Error(Error::Kind::Verification,
              fmt::format("{} differences; the first, level {}: {}: {}", report.findings.size(),
                          first.level, first.where, first.what));
}

// What can be said of a bundle that does not open.
VerifyReport damaged(const std::string& file) {
  VerifyReport report;
  report.findings = {{"bytes", file,
                      "does not have the size and hash that it was written with: the bundle is "
                      "damaged or was edited"}};
  return report;
}

// Lines that are not blank, or as many of our own as --sentences says.
std::vector<TextRequest> requests_of(const Options& options) {
  std::vector<TextRequest> found;
  if (options.text.empty()) {
    for (int64_t i = 0; i < options.sentences; ++i)
      found.push_back({sample_text(size_t(i)), {}, {}});
  } else {
    each_line(options.text, [&](const Line& line) {
      if (line.text.find_first_not_of(" \t\r") != std::string::npos)
        found.push_back({line.text, {}, {}});
    });
    check(!found.empty(), "{}: has no sentences", options.text);
    const auto most =
        static_cast<size_t>(options.is_given("--sentences") ? options.sentences : INT64_MAX);
    found.resize(std::min(found.size(), most));
  }
  for (TextRequest& request : found) request.from = options.from, request.to = options.to;
  return found;
}

// verify --as: what a checkpoint loses by rounding, without a device.
int verify_rounding(const Options& options) {
  check(options.as == "bf16", "--as {}: bf16", shown(options.as));
  check(is_bundle(options.model) != options.reference.empty(),
        "--as bf16 rounds a checkpoint's own tensors: verify MODEL_DIR --as bf16, or of a bundle "
        "with --reference MODEL_DIR");
  check(!options.from.empty() && !options.to.empty(), "--as needs --from CODE and --to CODE");
  for (const char* flag : {"--target", "--device", "--libnrt", "--dtype", "--stats"}) {
    check(!options.is_given(flag), "{} is not for --as, which needs no device", flag);
  }
  Progress progress(options.quiet);
  const Json report =
      compare_rounded(is_bundle(options.model) ? options.reference : options.model, DType::bf16,
                      requests_of(options), static_cast<int>(options.threads), progress);
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
    return 0;
  }
  const auto number = [&](const char* key) { return report.at(key).get<uint64_t>(); };
  fmt::print(
      "bf16 against float32: {} of {} tokens and {} of {} sentences are equal, chrF++ {:.2f}\n",
      number("tokens_equal"), number("tokens"), number("sentences_equal"), number("sentences"),
      report.at("chrf++").get<double>());
  return 0;
}

}  // namespace

int verify_command(const Options& options) {
  if (!options.as.empty()) return verify_rounding(options);
  for (const char* flag : {"--text", "--from", "--to"}) {
    check(!options.is_given(flag), "{} is for verify --as", flag);
  }
  const double start = seconds_now();
  Progress progress(options.quiet);
  if (is_bundle(options.model)) {
    if (const auto file = damaged_file(options.model)) return tell(damaged(*file), options);
  }
  std::optional<CachedBundle> cached;
  const Bundle bundle = open_bundle(options, cached);
  VerifyOptions verify;
  const auto device = open_device(options, bundle, verify.target);
  verify.sentences = static_cast<int>(options.sentences);
  verify.threads = static_cast<int>(options.threads);
  std::optional<CachedBundle> rebuilt;
  if (!options.reference.empty()) {
    CompileOptions compile = options_of(bundle);
    const bool cut = std::ranges::any_of(bundle.modules(), &Bundle::Module::cpu);
    if (!cut) compile.targets = {verify.target};  // else others may have decided the cut
    rebuilt.emplace(cached_bundle(options.reference, compile, progress));
    verify.reference = options.reference;
    verify.rebuilt = rebuilt->path;
  }
  Stats stats;
  stats.load_seconds = seconds_now() - start;
  const VerifyReport report = verify_bundle(bundle, *device, verify, progress);
  stats.generate_seconds = {seconds_now() - start - stats.load_seconds};
  stats.tokenize_seconds = {0};
  stats.input_tokens = report.input_tokens;
  stats.output_tokens = report.output_tokens;
  stats.device = device->description();
  stats.executions = report.executions;
  stats.backends = report.backends;
  write_stats(options, stats);
  return tell(report, options);
}

}  // namespace ng
