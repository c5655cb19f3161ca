#include "compile/verify.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "compile/compile.h"
#include "compile/prepare.h"
#include "compile/recording.h"
#include "ir/text.h"
#include "text/tokenizer.h"
#include "translate/forward.h"
#include "translate/translator.h"

namespace ng {
namespace {

// max|difference| ≤ kTolerance · max|reference| for every tap. Both sides are float32 over the same
// matrices (bf16 bundles: rounded likewise); they differ in nothing but fused sums' order, if that.
constexpr double kTolerance = 2e-5;
constexpr int kTargetIds = 12;  // at most, of each sentence

// Short texts in several scripts; more sentences than these repeat them, joined.
constexpr const char* kTexts[] = {
    "The weather is fine today.",        "Where is the train station?",
    "Der Hund schläft unter dem Tisch.", "Je voudrais un café, s'il vous plaît.",
    "El niño compró 3 manzanas.",        "Добрый вечер, друзья!",
    "今日は雨が降っています。",          "यह किताब बहुत अच्छी है।",
};

Phases phases_of(const Bundle& bundle) {
  return {bundle.facts().vocabulary, bundle.facts().pad,
          [&bundle](const std::string& phase) { return std::string(bundle.artifact(phase)); },
          [&bundle](const std::string& name) { return bundle.weight(name); }};
}

// The unlowered float32 graph over the checkpoint; with `rounded`, its matrices are rounded to bf16
// first.
Phases phases_of(const Checkpoint& checkpoint, const Model& model, bool rounded) {
  const auto rows = checkpoint_rows(checkpoint, model.weights);
  const auto build = model.build;
  const Sizes sizes = capacities(model);
  return {model.vocabulary, model.pad,
          [build, sizes](const std::string& phase) { return print(build(phase, sizes)); },
          [&checkpoint, model, rows, rounded](const std::string& name) {
            if (name.starts_with("frequencies")) fail("'{}' is no tensor", name);
            const Type stored = checkpoint.find(model.weights.at(name))->type;
            Tensor tensor = rows(name, 0, stored.size(0));
            if (!rounded || stored.rank() != 2) return tensor;
            std::vector<float> values(tensor.data.size() / sizeof(float));
            std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
            for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
            return Tensor::of<float>(DType::f32, stored.shape, values);
          }};
}

class Verify {
 public:
  Verify(const Bundle& bundle, const VerifyOptions& options, Progress& progress)
      : bundle_(bundle),
        options_(options),
        progress_(progress),
        threads_(options.threads > 0 ? options.threads : available_threads()),
        device_(find_backend(bundle.target()).open({options.threads})) {
    report_.device = device_->description();
    report_.referenced = !options.reference.empty();
  }
  VerifyReport run();

 private:
  void check_bytes();
  void check_build();
  void make_inputs();
  void check_kernels();
  void check_precision();
  void compare_taps(const std::vector<Recorded>& found, const std::vector<Recorded>& expected);
  void check_tokens(std::span<const float> logits, int64_t vocabulary);
  void find(const char* level, std::string where, std::string what) {
    report_.findings.push_back({level, std::move(where), std::move(what)});
  }
  std::vector<Recorded> forward_all(Device& device, Phases phases, bool keep_logits);

  const Bundle& bundle_;
  const VerifyOptions& options_;
  Progress& progress_;
  ThreadPool threads_;
  std::unique_ptr<Device> device_;
  VerifyReport report_;
  std::vector<ForwardInputs>
      inputs_;  // each sentence with the ids that the bundle generates for it
  std::vector<std::vector<float>> logits_;  // of the reference, by sentence
};

// Level 1: every byte is the one that was written.
void Verify::check_bytes() {
  try {
    bundle_.check_weights(progress_);
  } catch (const Error& error) {
    find("bytes", bundle_.path().string(), error.what());
  }
}

// Level 2: this build makes the same tensors and graphs of the reference.
void Verify::check_build() {
  const Bundle rebuilt = Bundle::open(options_.rebuilt);
  for (const auto& [name, stored] : rebuilt.weights()) {
    ++report_.tensors;
    const auto found = bundle_.weights().find(name);
    if (found == bundle_.weights().end()) {
      find("build", name, "the bundle lacks this tensor");
    } else if (found->second.sha256 != stored.sha256 || !(found->second.type == stored.type)) {
      find("build", name, "the tensor differs from the one made of the reference");
    }
  }
  for (const std::string_view phase : kPhases) {
    const std::string called(phase);
    if (bundle_.artifact(called) != rebuilt.artifact(called)) {
      find("build", called, "the graph differs from the one made of the reference");
    }
  }
  if (bundle_.facts().pad != rebuilt.facts().pad ||
      bundle_.facts().vocabulary != rebuilt.facts().vocabulary) {
    find("build", "manifest.json", "the model's facts differ from the reference's");
  }
}

// The sentences, and what the bundle itself translates them to: greedy, a few ids each.
void Verify::make_inputs() {
  std::optional<Tokenizer> tokenizer;
  if (bundle_.has_tokenizer()) tokenizer = Tokenizer::parse(bundle_.tokenizer_bytes());
  std::mt19937 random(1);
  const int64_t vocabulary = bundle_.facts().vocabulary;
  Session session(phases_of(bundle_), *device_);
  for (int i = 0; i < options_.sentences; ++i) {
    Job job{{},
            {},
            BeamSearch({}, {static_cast<int32_t>(bundle_.facts().decoder_start)}, vocabulary),
            ""};
    if (tokenizer && !tokenizer->languages().empty()) {
      const char* text = kTexts[static_cast<size_t>(i) % std::size(kTexts)];
      const auto& languages = tokenizer->languages();
      job.source = tokenizer->frame(tokenizer->encode_content(text),
                                    languages[static_cast<size_t>(i) % languages.size()].id);
    } else {
      for (int n = 0; n < 4 + i % 20; ++n) {
        job.source.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
      }
    }
    GenerationOptions greedy;
    greedy.max_length = kTargetIds;
    job.search =
        BeamSearch(greedy, {static_cast<int32_t>(bundle_.facts().decoder_start)}, vocabulary);
    std::vector<Job> jobs = {job};
    run_jobs(session, jobs, {});
    check(jobs[0].error.empty(), "{}", jobs[0].error);
    ForwardInputs in;
    in.batch = 1;
    in.input_ids = job.source;
    in.source = static_cast<int64_t>(job.source.size());
    in.decoder_input_ids = jobs[0].search.results().at(0).ids;
    in.target = static_cast<int64_t>(in.decoder_input_ids.size());
    inputs_.push_back(std::move(in));
  }
}

// Level 3: every node, device against interpreter on the inputs the device itself produced.
void Verify::check_kernels() {
  CheckingDevice checking(*device_, threads_);
  Session session(phases_of(bundle_), checking);
  progress_.begin("kernels", inputs_.size());
  for (const ForwardInputs& in : inputs_) {
    forward(session, in, {[](const Tensor&) {}, [](std::span<const float>) {}});
    progress_.advance(1);
  }
  ForwardInputs& first = inputs_.front();  // and the projection of the decode phase
  Job job{first.input_ids,
          {},
          BeamSearch({}, {first.decoder_input_ids.front()}, bundle_.facts().vocabulary),
          ""};
  GenerationOptions two;
  two.max_length = 3;
  two.num_beams = 2;
  job.search = BeamSearch(two, {first.decoder_input_ids.front()}, bundle_.facts().vocabulary);
  std::vector<Job> jobs = {std::move(job)};
  run_jobs(session, jobs, {});
  progress_.end();
  report_.nodes = checking.nodes_checked;
  for (const Difference& difference : checking.differences) {
    find("kernel", fmt::format("{}: {}", difference.phase, difference.node),
         fmt::format("element {} is {} on the device and {} by definition", difference.element,
                     difference.device, difference.interpreter));
  }
}

// A graph's taps in the order of the computation: encoder.N, hidden, decoder.N, logits.
bool is_tap(const std::string& name) {
  return name.starts_with("encoder.") || name.starts_with("decoder.") || name == "hidden" ||
         name == "logits";
}

std::vector<std::string> tap_order(const Recorded& recorded) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : recorded) names.push_back(name);
  const auto place = [](const std::string& name) {
    const size_t dot = name.find('.');
    const int layer = dot == std::string::npos ? 1 << 20 : std::stoi(name.substr(dot + 1));
    return layer;
  };
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
  return names;
}

double relative_difference(const Tensor& found, const Tensor& expected) {
  double difference = 0, largest = 0;
  for (size_t at = 0; at < expected.data.size(); at += sizeof(float)) {
    float a = 0, b = 0;
    std::memcpy(&a, &found.data[at], sizeof(a));
    std::memcpy(&b, &expected.data[at], sizeof(b));
    difference = std::max(difference, std::abs(static_cast<double>(a) - b));
    largest = std::max(largest, std::abs(static_cast<double>(b)));
    if (std::isnan(a)) return INFINITY;
  }
  return largest == 0 ? difference : difference / largest;
}

void Verify::compare_taps(const std::vector<Recorded>& found,
                          const std::vector<Recorded>& expected) {
  NG_CHECK(found.size() == expected.size(), "{} runs and {}", found.size(), expected.size());
  for (size_t run = 0; run < found.size(); ++run) {
    for (const std::string& tap : tap_order(expected[run])) {
      const double error = relative_difference(found[run].at(tap), expected[run].at(tap));
      auto at = std::find_if(report_.precision.begin(), report_.precision.end(),
                             [&](const auto& entry) { return entry.first == tap; });
      if (at == report_.precision.end()) {
        at = report_.precision.insert(at, {tap, 0.0});
      }
      at->second = std::max(at->second, error);
    }
  }
  for (const auto& [tap, error] : report_.precision) {
    if (!(error <= kTolerance)) {
      find("precision", tap,
           fmt::format("differs by {:.3g} of the largest value; {:.3g} is allowed", error,
                       kTolerance));
    }
  }
}

// The id that the bundle chose at each position is the reference's best.
void Verify::check_tokens(std::span<const float> logits, int64_t vocabulary) {
  const ForwardInputs& in = inputs_[logits_.size()];
  logits_.emplace_back();
  const auto size = static_cast<size_t>(vocabulary);
  for (size_t at = 0; at + 1 < in.decoder_input_ids.size(); ++at) {
    const auto row = logits.subspan(at * size, size);
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    ++report_.tokens;
    if (best == in.decoder_input_ids[at + 1]) {
      ++report_.tokens_equal;
    } else {
      find("tokens", fmt::format("sentence {}, position {}", logits_.size(), at + 1),
           fmt::format("the bundle says {}, the reference {}", in.decoder_input_ids[at + 1], best));
    }
  }
}

std::vector<Recorded> Verify::forward_all(Device& device, Phases phases, bool keep_logits) {
  RecordingDevice recording(device, is_tap);
  Session session(std::move(phases), recording);
  for (const ForwardInputs& in : inputs_) {
    forward(session, in,
            {[](const Tensor&) {},
             [&](std::span<const float> logits) {
               if (keep_logits) check_tokens(logits, session.vocabulary());
             }});
    progress_.advance(1);
  }
  return std::move(recording.runs);
}

// Level 4: the taps, teacher-forced, against the unlowered float32 graph on the interpreter.
void Verify::check_precision() {
  const Checkpoint checkpoint = Checkpoint::open(options_.reference);
  const Model model = open_model(checkpoint);
  const std::unique_ptr<Device> interpreter = find_backend("reference").open({options_.threads});
  progress_.begin("precision", 2 * inputs_.size());
  const std::vector<Recorded> found = forward_all(*device_, phases_of(bundle_), false);
  const std::vector<Recorded> expected =
      forward_all(*interpreter, phases_of(checkpoint, model, bundle_.dtype() == DType::bf16), true);
  progress_.end();
  std::vector<Finding> tokens;
  std::swap(tokens, report_.findings);
  compare_taps(found, expected);
  // Levels in their order: what was found before the tokens, the taps, the tokens.
  const auto first_token = std::find_if(tokens.begin(), tokens.end(), [](const Finding& finding) {
    return finding.level == "tokens";
  });
  report_.findings.insert(report_.findings.begin(), tokens.begin(), first_token);
  report_.findings.insert(report_.findings.end(), first_token, tokens.end());
}

VerifyReport Verify::run() {
  check_bytes();
  if (report_.referenced) check_build();
  make_inputs();
  check_kernels();
  if (report_.referenced) check_precision();
  return std::move(report_);
}

}  // namespace

VerifyReport verify_bundle(const Bundle& bundle, const VerifyOptions& options, Progress& progress) {
  return Verify(bundle, options, progress).run();
}

Json to_json(const VerifyReport& report) {
  Json findings = Json::array(), precision = Json::object();
  for (const Finding& finding : report.findings) {
    findings.push_back(
        {{"level", finding.level}, {"where", finding.where}, {"what", finding.what}});
  }
  for (const auto& [tap, error] : report.precision) precision[tap] = error;
  return {{"device", report.device},
          {"findings", findings},
          {"precision", precision},
          {"nodes", report.nodes},
          {"tensors", report.tensors},
          {"tokens", report.tokens},
          {"tokens_equal", report.tokens_equal},
          {"referenced", report.referenced},
          {"ok", report.findings.empty()}};
}

}  // namespace ng
