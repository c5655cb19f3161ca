#include "compile/verify.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "base/thread_pool.h"
#include "bundle/format.h"
#include "checkpoint/checkpoint.h"
#include "compile/bundle_session.h"
#include "compile/compile.h"
#include "compile/prepare.h"
#include "compile/recording.h"
#include "ir/text.h"
#include "text/tokenizer.h"
#include "translate/forward.h"
#include "translate/translator.h"

namespace ng {
namespace {

// max|difference| ≤ tolerance · max|reference|. On the CPU both sides are float32 over the same
// matrices (bf16 bundles: rounded likewise); they differ in nothing but fused sums' order, if that.
// Devices order sums as they like, and in bf16 round whatever is multiplied (docs/verify.md).
constexpr double kTolerance = 2e-5, kF32Module = 1e-4, kBf16Module = 0x1p-6, kBf16Model = 0x1p-5;
constexpr int kTargetIds = 12;  // at most, of each sentence

// Short texts in several scripts; more sentences than these repeat them, in other languages.
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
        threads_(options.threads > 0 ? options.threads : available_threads()),
        modules_(find_backend(options.target).target.fixed),
        rounded_(bundle.dtype() == DType::bf16),
        cpu_(open_cpu_of(bundle, options.target, options.threads)),
        cpu_checker_(cpu_ ? *cpu_ : device, threads_),
        checker_(device, threads_, rounded_ ? kBf16Module : kF32Module, bundle.sizes()),
        session_(open_session(bundle, options.target, {modules_ ? checker_ : device, &cpu_checker_},
                              report_.executions)) {
    report_.device = device_.description();
    report_.referenced = !options.reference.empty();
  }
  VerifyReport run();

 private:
  void check_bytes();
  void check_build();
  Job job(std::vector<int32_t> source, std::vector<int32_t> prompt, int new_ids, int beams) const;
  void run(Session& session, std::vector<Job>& jobs) const;
  void make_inputs();
  void check_kernels();
  void check_modules();
  bool check_precision();
  void keep_best(std::span<const float> logits, double near);
  void check_tokens();
  void check_text();
  void tell(const char* level, const std::vector<Difference>& differences);
  void tell(const CheckingDevice& kernels) {
    report_.nodes = kernels.nodes_checked;
    tell("kernel", kernels.differences);
  }
  void find(const char* level, std::string where, std::string what) {
    report_.findings.push_back({level, std::move(where), std::move(what)});
  }
  void forward_all(Session& session, const std::function<void(std::span<const float>)>& logits);

  const Bundle& bundle_;
  Device& device_;
  const VerifyOptions& options_;
  Progress& progress_;
  ThreadPool threads_;
  VerifyReport report_;
  const bool modules_, rounded_;
  std::unique_ptr<Device> cpu_;       // of segments on the CPU
  CheckingDevice cpu_checker_;        // all that these run goes through it
  ModuleChecker checker_;             // of modules: all that they run goes through it
  std::unique_ptr<Session> session_;  // of the bundle
  std::vector<Recorded> found_;       // run by run
  // Each sentence with the ids that the bundle generates for it, and for each of those the one that
  // the reference finds best behind it.
  std::vector<ForwardInputs> inputs_;
  std::vector<int32_t> best_ids_, next_ids_;  // [sentences, target]; -1: none is generated
};

// Level 1: every byte is the one that was written, and the parts fit each other.
void Verify::check_bytes() {
  try {
    check_bundle(bundle_.path(), progress_);
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
  std::vector<std::string> names;
  for (const std::string_view phase : kPhases) {
    if (!modules_) names.push_back(graph_file(phase));
  }
  for (const Bundle::Module& module : rebuilt.modules()) names.push_back(module.file());
  for (const std::string& name : names) {
    const std::string ours = bundle_.file_of(name, options_.target);
    const std::string theirs = rebuilt.file_of(name, options_.target);
    if (bundle_.has_file(ours) && bundle_.file(ours) == rebuilt.file(theirs)) continue;
    find("build", ours, "differs from the one made of the reference");
  }
  if (bundle_.facts().pad != rebuilt.facts().pad ||
      (modules_ && bundle_.sizes() != rebuilt.sizes()) ||
      bundle_.facts().vocabulary != rebuilt.facts().vocabulary) {
    find("build", "manifest.json", "the model's facts differ from the reference's");
  }
}

Job Verify::job(std::vector<int32_t> source, std::vector<int32_t> prompt, int new_ids,
                int beams) const {
  const StaticSizes& sizes = bundle_.sizes();
  GenerationOptions options;
  options.num_beams = modules_ ? static_cast<int>(std::min<int64_t>(beams, sizes.beams)) : beams;
  options.max_length = static_cast<int>(prompt.size()) + new_ids;
  if (modules_) options.max_length = std::min(options.max_length, static_cast<int>(sizes.target));
  return {std::move(source),
          {},
          BeamSearch(options, std::move(prompt), bundle_.facts().vocabulary),
          ""};
}

void Verify::run(Session& session, std::vector<Job>& jobs) const {
  run_jobs(session, jobs, {});
  for (const Job& job : jobs) check(job.error.empty(), "{}", job.error);
}

std::optional<Tokenizer> tokenizer_of(const Bundle& bundle) {
  if (!bundle.has_tokenizer()) return std::nullopt;
  return Tokenizer::parse(bundle.tokenizer_bytes());
}

// The sentences, and what the bundle itself translates them to: greedy, a few ids each.
void Verify::make_inputs() {
  const std::optional<Tokenizer> tokenizer = tokenizer_of(bundle_);
  std::mt19937 random(1);
  const Bundle::Facts& facts = bundle_.facts();
  const auto most = static_cast<size_t>(modules_ ? bundle_.sizes().source : INT32_MAX);
  for (size_t i = 0; i < static_cast<size_t>(options_.sentences); ++i) {
    std::vector<int32_t> source;
    if (tokenizer && !tokenizer->languages().empty()) {
      const auto& languages = tokenizer->languages();
      source = tokenizer->encode_content(sample_text(i));
      source.resize(std::min(source.size(), most - 2));
      source = tokenizer->frame(source, languages[i % languages.size()].id);
    } else {
      while (source.size() < std::min(most, 4 + i % 20)) {
        source.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(facts.vocabulary)));
      }
    }
    const auto start = static_cast<int32_t>(facts.decoder_start);
    std::vector<Job> jobs = {job(std::move(source), {start}, kTargetIds - 1, 1)};
    run(*session_, jobs);
    ForwardInputs in;
    in.batch = 1;
    in.input_ids = std::move(jobs[0].source);
    in.source = static_cast<int64_t>(in.input_ids.size());
    in.decoder_input_ids = jobs[0].search.results().at(0).ids;
    in.target = static_cast<int64_t>(in.decoder_input_ids.size());
    report_.input_tokens += in.input_ids.size();
    report_.output_tokens += in.decoder_input_ids.size() - jobs[0].search.prompt().size();
    const auto& ids = in.decoder_input_ids;
    next_ids_.insert(next_ids_.end(), ids.begin() + 1, ids.end());
    next_ids_.push_back(-1);
    inputs_.push_back(std::move(in));
  }
}

// Level 3: every node, device against interpreter on the inputs the device itself produced.
void Verify::check_kernels() {
  CheckingDevice checking(device_, threads_);
  const auto session = open_session(bundle_, options_.target, {checking}, report_.executions);
  progress_.begin("kernels", inputs_.size(), "sentences");
  for (const ForwardInputs& in : inputs_) {
    forward(*session, in, {[](const Tensor&) {}, [](std::span<const float>) {}});
    progress_.advance(1);
  }
  const ForwardInputs& first = inputs_.front();  // and the projection of the decode phase
  std::vector<Job> jobs = {job(first.input_ids, {first.decoder_input_ids.front()}, 2, 2)};
  run(*session, jobs);
  progress_.end();
  tell(checking);
}

// Level 3 of modules: what each gave, in make_inputs() and here: a sentence at a time, then all
// together behind longer prompts.
void Verify::check_modules() {
  progress_.begin("modules", inputs_.size(), "sentences");
  std::vector<Job> jobs;
  // One more than a step takes, or prefill would have nothing to do.
  const int64_t most = std::max<int64_t>(3, bundle_.sizes().beams + 1);
  const auto known = static_cast<size_t>(std::clamp<int64_t>(bundle_.sizes().target - 1, 1, most));
  for (const ForwardInputs& in : inputs_) {
    if (session_->has_logits()) {
      const Shape shape = {in.target, bundle_.facts().vocabulary};
      forward(*session_, in,
              {[](const Tensor&) {},
               [&](std::span<const float> logits) {
                 found_.emplace_back();  // a run of the encoder
                 found_.push_back({{"logits", Tensor::of(DType::f32, shape, logits)}});
               }});
    }
    std::vector<int32_t> prompt = in.decoder_input_ids;
    prompt.resize(known, prompt.back());
    jobs.push_back(job(in.input_ids, std::move(prompt), 2, 2));
    std::vector<Job> alone = {jobs[0]};
    if (jobs.size() == 1) run(*session_, alone);
    progress_.advance(1);
  }
  run(*session_, jobs);
  progress_.end();
  report_.modules = checker_.modules;
  for (const Bundle::Module& module : bundle_.modules()) {
    if (!report_.executions.contains(module.name)) continue;
    report_.backends[module.name] = (module.cpu ? *cpu_ : device_).description();
  }
  tell("device", checker_.differences);
  tell(cpu_checker_);
}

void Verify::tell(const char* level, const std::vector<Difference>& differences) {
  for (const Difference& difference : differences) {
    find(level, fmt::format("{}: {}", difference.phase, difference.node),
         fmt::format("element {} is {} on the device and {} by definition", difference.element,
                     difference.device, difference.interpreter));
  }
}

void Verify::forward_all(Session& session,
                         const std::function<void(std::span<const float>)>& logits) {
  for (const ForwardInputs& in : inputs_) {
    forward(session, in, {[](const Tensor&) {}, logits});
    progress_.advance(1);
  }
}

// Of each row the best id; of two that are as near as `near` of the largest score, the one that the
// bundle chose.
void Verify::keep_best(std::span<const float> logits, double near) {
  const auto size = static_cast<size_t>(bundle_.facts().vocabulary);
  for (size_t at = 0; at < logits.size(); at += size) {
    const auto row = logits.subspan(at, size);
    const auto most = std::max_element(row.begin(), row.end());
    auto best = static_cast<int32_t>(most - row.begin());
    const int32_t chosen = next_ids_.at(best_ids_.size());
    const double largest = std::max(*most, -*std::min_element(row.begin(), row.end()));
    if (chosen >= 0 && chosen != best &&
        *most - row[static_cast<size_t>(chosen)] <= near * largest) {
      best = chosen;
      ++report_.ties;
    }
    best_ids_.push_back(best);
  }
}

// Level 4: the taps (of modules logits), teacher-forced, against the unlowered float32 graph on the
// interpreter. Keeps the reference's best ids for the levels after it. False: the vocabularies
// differ, which is told at the level build, and one's ids mean nothing to the other.
bool Verify::check_precision() {
  const Checkpoint checkpoint = Checkpoint::open(options_.reference);
  const Model model = open_model(checkpoint);
  if (model.vocabulary != bundle_.facts().vocabulary) return false;
  const std::unique_ptr<Device> interpreter = find_backend("reference").open({options_.threads});
  const double tolerance = !modules_ ? kTolerance : rounded_ ? kBf16Model : kF32Module;
  const auto compared = [this](const auto& name) {
    return modules_ ? name == "logits" : is_tap(name);
  };
  RecordingDevice ours(device_, is_tap), theirs(*interpreter, compared);
  Session reference(phases_of(checkpoint, model, rounded_), theirs);
  progress_.begin("precision", (modules_ ? 1 : 2) * inputs_.size(), "sentences");
  if (!modules_) {
    forward_all(*open_session(bundle_, options_.target, {ours}, report_.executions),
                [](std::span<const float>) {});
    found_ = std::move(ours.runs);
  }
  forward_all(reference, [&](auto logits) { keep_best(logits, modules_ ? 2 * tolerance : 0); });
  progress_.end();
  if (!found_.empty()) report_.precision = compare_runs(found_, theirs.runs);
  for (const auto& [tap, error] : report_.precision) {
    if (error <= tolerance) continue;
    find("precision", tap,
         fmt::format("differs by {:.3g} of the largest; {:.3g} is allowed", error, tolerance));
  }
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
  if (modules_ && !report_.findings.empty()) return std::move(report_);  // they may not load
  if (report_.referenced) check_build();
  make_inputs();
  modules_ ? check_modules() : check_kernels();
  if (report_.referenced && check_precision()) {
    check_tokens();
    check_text();
  }
  return std::move(report_);
}

}  // namespace

std::string sample_text(size_t i) { return kTexts[i % std::size(kTexts)]; }

VerifyReport verify_bundle(const Bundle& bundle, Device& device, const VerifyOptions& options,
                           Progress& progress) {
  return Verify(bundle, device, options, progress).run();
}

}  // namespace ng
