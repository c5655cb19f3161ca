// `neuroglot verify`: the report, as lines or JSON.
#include "compile/verify.h"

#include "base/error.h"
#include "tools/opened.h"

namespace ng {
namespace {

void print_report(const VerifyReport& report) {
  if (!report.device.empty()) {
    fmt::print("{}: {} nodes are the interpreter's, byte for byte, or listed below\n",
               report.device, report.nodes);
  }
  if (report.referenced) {
    fmt::print("{} tensors compared with those made of the reference\n", report.tensors);
    for (const auto& [tap, error] : report.precision) fmt::print("  {:12} {:.2e}\n", tap, error);
    fmt::print("{} of {} tokens are the reference's\n", report.tokens_equal, report.tokens);
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

}  // namespace

int verify_command(const Options& options) {
  const double start = seconds_now();
  Progress progress(options.quiet);
  if (is_bundle(options.model)) {
    if (const auto file = damaged_file(options.model)) return tell(damaged(*file), options);
  }
  std::optional<CachedBundle> cached;
  const Bundle bundle = open_bundle(options, cached);
  VerifyOptions verify;
  verify.target = only_target(options, bundle, [](const Target& target) { return !target.fixed; });
  check(!verify.target.empty(),
        "verify takes bundles for cpu and reference; {} has other targets: compare its "
        "translations, or forward of it --with-logits, with those of cpu",
        options.model);
  verify.sentences = static_cast<int>(options.sentences);
  verify.threads = static_cast<int>(options.threads);
  std::optional<CachedBundle> rebuilt;
  if (!options.reference.empty()) {
    CompileOptions compile = compile_options(options);
    compile.targets = {verify.target};
    compile.dtype = bundle.dtype();
    rebuilt.emplace(cached_bundle(options.reference, compile, progress));
    verify.reference = options.reference;
    verify.rebuilt = rebuilt->path;
  }
  const auto device = find_backend(verify.target).open({verify.threads});
  Stats stats;
  stats.load_seconds = seconds_now() - start;
  const VerifyReport report = verify_bundle(bundle, *device, verify, progress);
  stats.generate_seconds = {seconds_now() - start - stats.load_seconds};
  stats.tokenize_seconds = {0};
  stats.input_tokens = report.input_tokens;
  stats.output_tokens = report.output_tokens;
  stats.device = device->description();
  write_stats(options, stats);
  return tell(report, options);
}

}  // namespace ng
