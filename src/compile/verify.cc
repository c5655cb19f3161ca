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
  Verify(const Bundle& bundle, Device& device, const VerifyOptions& options, Progress& progress)
      : bundle_(bundle),
        device_(device),
        options_(options),
        progress_(progress),
        threads_(options.threads > 0 ? options.threads : available_threads()) {
    report_.device = device_.description();
    report_.referenced = !options.reference.empty();
  }
  VerifyReport run();

 private:
  void check_bytes();
  void check_build();
  Job greedy_job(std::vector<int32_t> source) const;
  void make_inputs();
  void check_kernels();
  bool check_precision();
  void compare_taps(const std::vector<Recorded>& found, const std::vector<Recorded>& expected);
  void check_tokens();
  void check_text();
  void find(const char* level, std::string where, std::string what) {
    report_.findings.push_back({level, std::move(where), std::move(what)});
  }
  std::vector<Recorded> forward_all(Device& device, Phases phases,
                                    const std::function<void(std::span<const float>)>& logits);

  const Bundle& bundle_;
  Device& device_;
  const VerifyOptions& options_;
  Progress& progress_;
  ThreadPool threads_;
  VerifyReport report_;
  // Each sentence with the ids that the bundle generates for it, and for each of those the one that
  // the reference finds best behind it.
  std::vector<ForwardInputs> inputs_;
  std::vector<int32_t> best_ids_;  // [sentences, target]
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
    if (bundle_.artifact(phase, options_.target) != rebuilt.artifact(phase, options_.target)) {
      find("build", std::string(phase), "the graph differs from the one made of the reference");
    }
  }
  if (bundle_.facts().pad != rebuilt.facts().pad ||
      bundle_.facts().vocabulary != rebuilt.facts().vocabulary) {
    find("build", "manifest.json", "the model's facts differ from the reference's");
  }
}

Job Verify::greedy_job(std::vector<int32_t> source) const {
  GenerationOptions greedy;
  greedy.max_length = kTargetIds;
  const std::vector<int32_t> prompt = {static_cast<int32_t>(bundle_.facts().decoder_start)};
  return {std::move(source), {}, BeamSearch(greedy, prompt, bundle_.facts().vocabulary), ""};
}

std::optional<Tokenizer> tokenizer_of(const Bundle& bundle) {
  if (!bundle.has_tokenizer()) return std::nullopt;
  return Tokenizer::parse(bundle.tokenizer_bytes());
}

// The sentences, and what the bundle itself translates them to: greedy, a few ids each.
void Verify::make_inputs() {
  const std::optional<Tokenizer> tokenizer = tokenizer_of(bundle_);
  std::mt19937 random(1);
  const auto vocabulary = static_cast<uint64_t>(bundle_.facts().vocabulary);
  Session session(phases_of(bundle_, options_.target), device_);
  for (int i = 0; i < options_.sentences; ++i) {
    std::vector<int32_t> source;
    if (tokenizer && !tokenizer->languages().empty()) {
      const char* text = kTexts[static_cast<size_t>(i) % std::size(kTexts)];
      const auto& languages = tokenizer->languages();
      source = tokenizer->frame(tokenizer->encode_content(text),
                                languages[static_cast<size_t>(i) % languages.size()].id);
    } else {
      for (int n = 0; n < 4 + i % 20; ++n) {
        source.push_back(static_cast<int32_t>(random() % vocabulary));
      }
    }
    std::vector<Job> jobs = {greedy_job(std::move(source))};
    run_jobs(session, jobs, {});
    check(jobs[0].error.empty(), "{}", jobs[0].error);
    ForwardInputs in;
    in.batch = 1;
    in.input_ids = std::move(jobs[0].source);
    in.source = static_cast<int64_t>(in.input_ids.size());
    in.decoder_input_ids = jobs[0].search.results().at(0).ids;
    in.target = static_cast<int64_t>(in.decoder_input_ids.size());
    report_.input_tokens += in.input_ids.size();
    report_.output_tokens += in.decoder_input_ids.size() - jobs[0].search.prompt().size();
    inputs_.push_back(std::move(in));
  }
}

// Level 3: every node, device against interpreter on the inputs the device itself produced.
void Verify::check_kernels() {
  CheckingDevice checking(device_, threads_);
  Session session(phases_of(bundle_, options_.target), checking);
  progress_.begin("kernels", inputs_.size(), "sentences");
  for (const ForwardInputs& in : inputs_) {
    forward(session, in, {[](const Tensor&) {}, [](std::span<const float>) {}});
    progress_.advance(1);
  }
  const ForwardInputs& first = inputs_.front();  // and the projection of the decode phase
  GenerationOptions two;
  two.max_length = 3;
  two.num_beams = 2;
  const std::vector<int32_t> prompt = {first.decoder_input_ids.front()};
  std::vector<Job> jobs = {
      {first.input_ids, {}, BeamSearch(two, prompt, bundle_.facts().vocabulary), ""}};
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
      const Tensor& wanted = expected[run].at(tap);
      const auto same = found[run].find(tap);  // a model of another size has another, or none
      const bool comparable = same != found[run].end() && same->second.type == wanted.type;
      const double error = comparable ? relative_difference(same->second, wanted) : INFINITY;
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

std::vector<Recorded> Verify::forward_all(
    Device& device, Phases phases, const std::function<void(std::span<const float>)>& logits) {
  RecordingDevice recording(device, is_tap);
  Session session(std::move(phases), recording);
  for (const ForwardInputs& in : inputs_) {
    forward(session, in, {[](const Tensor&) {}, logits});
    progress_.advance(1);
  }
  return std::move(recording.runs);
}

// Level 4: the taps, teacher-forced, against the unlowered float32 graph on the interpreter. Keeps
// the reference's best ids for the levels after it. False: the vocabularies differ, which is told
// at the level build, and one's ids mean nothing to the other.
bool Verify::check_precision() {
  const Checkpoint checkpoint = Checkpoint::open(options_.reference);
  const Model model = open_model(checkpoint);
  if (model.vocabulary != bundle_.facts().vocabulary) return false;
  const std::unique_ptr<Device> interpreter = find_backend("reference").open({options_.threads});
  const auto keep_best = [&](std::span<const float> logits) {
    const auto size = static_cast<size_t>(model.vocabulary);
    for (size_t at = 0; at < logits.size(); at += size) {
      const auto row = logits.subspan(at, size);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      best_ids_.push_back(static_cast<int32_t>(best));
    }
  };
  progress_.begin("precision", 2 * inputs_.size(), "sentences");
  const std::vector<Recorded> found =
      forward_all(device_, phases_of(bundle_, options_.target), [](std::span<const float>) {});
  const std::vector<Recorded> expected = forward_all(
      *interpreter, phases_of(checkpoint, model, bundle_.dtype() == DType::bf16), keep_best);
  progress_.end();
  compare_taps(found, expected);
  return true;
}

// Level 5: the id that the bundle chose at each position is the reference's best.
void Verify::check_tokens() {
  size_t row = 0;
  for (size_t i = 0; i < inputs_.size(); ++i, ++row) {  // behind the last id stands nothing
    const std::vector<int32_t>& ids = inputs_[i].decoder_input_ids;
    for (size_t at = 1; at < ids.size(); ++at, ++row) {
      const int32_t chosen = ids[at], best = best_ids_[row];
      ++report_.tokens;
      report_.tokens_equal += chosen == best ? 1 : 0;
      if (chosen == best) continue;
      find("tokens", fmt::format("sentence {}, position {}", i + 1, at),
           fmt::format("the bundle says {}, the reference {}", chosen, best));
    }
  }
}

// Level 6: the same ids as text, each side by its own tokenizer.
void Verify::check_text() {
  const Bundle rebuilt = Bundle::open(options_.rebuilt);
  const std::optional<Tokenizer> ours = tokenizer_of(bundle_), theirs = tokenizer_of(rebuilt);
  if (ours.has_value() != theirs.has_value()) {
    find("text", std::string(kTokenizerName),
         fmt::format("the {} has none", ours ? "reference" : "bundle"));
  }
  if (!ours || !theirs) return;
  size_t row = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const std::span<const int32_t> ids = inputs_[i].decoder_input_ids;
    const std::string found = ours->decode(ids.subspan(1));  // without the start
    const std::string expected = theirs->decode(std::span(best_ids_).subspan(row, ids.size() - 1));
    row += ids.size();
    ++report_.texts;
    report_.texts_equal += found == expected ? 1 : 0;
    if (found == expected) continue;
    find(
        "text", fmt::format("sentence {}", i + 1),
        fmt::format("the bundle says \"{}\", the reference \"{}\"", shown(found), shown(expected)));
  }
}

VerifyReport Verify::run() {
  check_bytes();
  if (report_.referenced) check_build();
  make_inputs();
  check_kernels();
  if (report_.referenced && check_precision()) {
    check_tokens();
    check_text();
  }
  return std::move(report_);
}

}  // namespace

VerifyReport verify_bundle(const Bundle& bundle, Device& device, const VerifyOptions& options,
                           Progress& progress) {
  return Verify(bundle, device, options, progress).run();
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
          {"texts", report.texts},
          {"texts_equal", report.texts_equal},
          {"referenced", report.referenced},
          {"ok", report.findings.empty()}};
}

}  // namespace ng
