// Does the demo model's decode step, run by XLA through a PJRT plugin, choose the CPU backend's
// tokens?
//   hlo_decode PLUGIN.so MODEL_DIR
// Ten steps of two sentences with four beams: history, aliased caches, top-k in the graph. Then two
// modules that are wrong on purpose must give other tokens or scores. Last line: N passed, N
// failed.
#include <fmt/ranges.h>

#include <chrono>
#include <cstring>

#include "backends/cpu/cpu.h"
#include "base/error.h"
#include "compile/prepare.h"
#include "hlo_decode_emit.h"
#include "hlo_decode_pjrt.h"
#include "ir/decompose.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "models/model.h"
#include "passes/passes.h"
#include "text/tokenizer.h"
#include "translate/batch.h"

namespace ng::tracer {
namespace {

constexpr Sizes kStatic = {64, 8, 16, 128, 64, 16};  // of the module that XLA gets
constexpr int kSteps = 10, kBeams = 4;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What the modules of one run did.
struct Observed {
  int steps = 0;
  bool in_place = true;  // every cache stayed where it was, and its old buffer was consumed
  double compile_seconds = 0, step_seconds = 0;
  Pjrt::Loaded loaded;
  std::string module;
};

// The decode phase on a PJRT device. Caches live there, not in the session's memory.
class HloExecutable : public Executable {
 public:
  HloExecutable(const Pjrt& pjrt, const HloProgram& program, const Graph& graph,
                const WeightSource& weights, Observed& observed)
      : pjrt_(pjrt), program_(program), observed_(observed) {
    for (const Named& in : program.inputs) inputs_.push_back({in.name, graph.type(in.value)});
    for (const Named& out : program.outputs) outputs_.push_back({out.name, graph.type(out.value)});
    const double start = seconds();
    loaded_ = pjrt.compile(program.bytes);
    observed.compile_seconds = seconds() - start;
    observed.loaded = loaded_;
    buffers_.resize(inputs_.size());
    for (const auto& [output, parameter] : program.aliases) {
      const Type& type = inputs_[parameter].type;
      const std::vector<std::byte> zeros(static_cast<size_t>(byte_count(type)));
      buffers_[parameter] = pjrt.upload(type, zeros.data());
    }
    for (const std::string& name : program.weights) {
      const Tensor tensor = weights(name);
      buffers_.push_back(pjrt.upload(tensor.type, tensor.data.data()));
    }
  }
  ~HloExecutable() override { pjrt_.destroy(loaded_); }

  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override;

 private:
  void upload_inputs(std::span<const Argument> inputs);
  void keep_states(std::vector<Pjrt::Buffer>& results);

  const Pjrt& pjrt_;
  HloProgram program_;
  Observed& observed_;
  Pjrt::Loaded loaded_;
  std::vector<Port> inputs_, outputs_;
  std::vector<Pjrt::Buffer> buffers_;  // one a parameter: inputs, then weights
};

// Copies the rows of `from`, of a narrower type perhaps, into those of `to`.
void copy_rows(const Argument& from, const Argument& to) {
  const auto width = [](const Argument& a) {
    const int64_t rows = a.type.size(0);
    return rows == 0 ? size_t{0} : static_cast<size_t>(byte_count(a.type) / rows);
  };
  const size_t bytes = std::min(width(from), width(to));
  for (int64_t row = 0; row < std::min(from.type.size(0), to.type.size(0)); ++row) {
    const auto at = static_cast<size_t>(row);
    std::memcpy(to.data + at * width(to), from.data + at * width(from), bytes);
  }
}

// Everything but the states, filled up to the capacities: rows that nobody asked for write nowhere.
void HloExecutable::upload_inputs(std::span<const Argument> inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto is_state = [&](const auto& alias) { return alias.second == i; };
    if (std::any_of(program_.aliases.begin(), program_.aliases.end(), is_state)) continue;
    const Type& type = inputs_[i].type;
    const bool index = inputs_[i].name == "cache_index";
    std::vector<std::byte> bytes(static_cast<size_t>(byte_count(type)),
                                 std::byte(index ? 0xff : 0));  // -1 or 0
    copy_rows(inputs[i], {type, bytes.data()});
    buffers_[i] = pjrt_.upload(type, bytes.data());
  }
}

// A state's next value is the output that the module aliases to it, as on a device that binds
// buffers in place.
void HloExecutable::keep_states(std::vector<Pjrt::Buffer>& results) {
  for (const auto& [output, parameter] : program_.aliases) {
    Pjrt::Buffer& old = buffers_[parameter];
    observed_.in_place = observed_.in_place && pjrt_.is_deleted(old.get());
    old = std::move(results[output]);
  }
}

void HloExecutable::run(std::span<const Argument> inputs, std::span<const Argument> outputs) {
  const double start = seconds();
  upload_inputs(inputs);
  std::vector<void*> arguments;
  std::vector<uintptr_t> before;  // where the states are
  for (const Pjrt::Buffer& buffer : buffers_) arguments.push_back(buffer.get());
  for (const auto& alias : program_.aliases) {
    before.push_back(pjrt_.address(arguments[alias.second]));
  }
  std::vector<Pjrt::Buffer> results = pjrt_.execute(loaded_, arguments);
  keep_states(results);
  for (size_t i = 0; i < before.size(); ++i) {
    const Pjrt::Buffer& state = buffers_[program_.aliases[i].second];
    observed_.in_place = observed_.in_place && pjrt_.address(state.get()) == before[i];
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data == nullptr || !results[i]) continue;  // a state that was kept
    std::vector<std::byte> bytes = pjrt_.download(results[i].get(), outputs_[i].type);
    copy_rows({outputs_[i].type, bytes.data()}, outputs[i]);
  }
  ++observed_.steps;
  observed_.step_seconds += seconds() - start;
}

// The encoder on the CPU, the decoder on the plugin.
class HloDevice : public Device {
 public:
  HloDevice(const Pjrt& pjrt, Fault fault, Observed& observed)
      : pjrt_(pjrt), fault_(fault), observed_(observed), cpu_(open_cpu({1})) {}

  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    Graph graph = parse_graph(artifact, "artifact");
    if (graph.name == "encode") return cpu_->load(artifact, weights);
    graph = decompose_all(graph);
    verify(graph);
    const HloProgram program = emit_hlo(graph, fault_);
    NG_CHECK(program.bytes == emit_hlo(graph, fault_).bytes, "other bytes at the second time");
    observed_.module = program.bytes;
    return std::make_unique<HloExecutable>(pjrt_, program, graph, weights, observed_);
  }
  std::string description() const override { return pjrt_.description(); }

 private:
  const Pjrt& pjrt_;
  Fault fault_;
  Observed& observed_;
  std::unique_ptr<Device> cpu_;
};

// The demo model's phases for both devices, with their prepared weights.
class Demo {
 public:
  explicit Demo(const Path& directory)
      : tokenizer_(Tokenizer::open(directory)),
        checkpoint_(Checkpoint::open(directory)),
        model_(open_model(checkpoint_)) {
    Graph prepare("prepare");
    add("encode", true, prepare);
    add("decode", true, prepare);
    add("decode", false, prepare);
    const WeightRows rows = checkpoint_rows(checkpoint_, model_.weights);
    Bindings bindings;
    bindings.weight = [&](const std::string& name) {
      return rows(name, 0, checkpoint_.find(model_.weights.at(name))->type.size(0));
    };
    weights_ = interpret(prepare, bindings);
  }

  std::vector<Hypothesis> translate(Device& device, bool packed) const;
  std::string text(const Hypothesis& found) const { return tokenizer_.decode(found.ids); }

 private:
  void add(const std::string& phase, bool packed, Graph& prepare) {
    LoweringOptions options;
    options.packed = packed;
    const Split split = lower(model_.build(phase, kStatic), options);
    texts_[{phase, packed}] = print(split.phase);
    merge_prepare(prepare, split.prepare);
  }

  Tokenizer tokenizer_;
  Checkpoint checkpoint_;
  Model model_;
  std::map<std::pair<std::string, bool>, std::string> texts_;
  std::map<std::string, Tensor> weights_;
};

std::vector<Hypothesis> Demo::translate(Device& device, bool packed) const {
  Phases phases;
  phases.vocabulary = model_.vocabulary;
  phases.pad = model_.pad;
  phases.artifact = [&](const std::string& phase) {
    return texts_.at({phase, phase == "encode" || packed});
  };
  phases.weight = [&](const std::string& name) { return weights_.at(name); };
  Session session(phases, device);
  std::vector<Job> jobs;
  for (const auto& [text, language] :
       {std::pair("The children are playing in the garden with their dog.", "fra_Latn"),
        std::pair("I would like a cup of tea and a piece of cake.", "deu_Latn")}) {
    GenerationOptions options;
    options.num_beams = options.num_return_sequences = kBeams;
    options.max_length = 2 + kSteps;  // the prompt and the forced language come before
    options.eos_token_id = {tokenizer_.eos()};
    options.forced_bos_token_id = tokenizer_.language_id(language);
    jobs.push_back(
        {tokenizer_.frame(tokenizer_.encode_content(text), tokenizer_.language_id("eng_Latn")),
         {},
         BeamSearch(options, {2}, model_.vocabulary),
         ""});
  }
  run_jobs(session, jobs, {});
  std::vector<Hypothesis> found;
  for (const Job& job : jobs) {
    check(job.error.empty(), "{}", job.error);
    for (const Hypothesis& one : job.search.results()) found.push_back(one);
  }
  return found;
}

bool same_tokens(const std::vector<Hypothesis>& a, const std::vector<Hypothesis>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Hypothesis& x, const Hypothesis& y) { return x.ids == y.ids; });
}

constexpr float kScores = 1e-4F;  // scores of the plugin and of the CPU backend differ by less

float score_difference(const std::vector<Hypothesis>& a, const std::vector<Hypothesis>& b) {
  float largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i].score - b[i].score));
  }
  return largest;
}

class Report {
 public:
  void expect(bool holds, const std::string& what) {
    fmt::print("{}: {}\n", holds ? "ok" : "FAILED", what);
    ++(holds ? passed_ : failed_);
  }
  int end() const {
    fmt::print("{} passed, {} failed\n", passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  int passed_ = 0, failed_ = 0;
};

void print_observed(const Observed& seen) {
  fmt::print(
      "module {} bytes, compiled in {:.2f} s, {} steps of {:.2f} ms; arguments {} KiB, of them "
      "aliased {} KiB, temporaries {} KiB\n",
      seen.module.size(), seen.compile_seconds, seen.steps,
      1e3 * seen.step_seconds / std::max(seen.steps, 1), seen.loaded.argument_bytes >> 10,
      seen.loaded.alias_bytes >> 10, seen.loaded.temporary_bytes >> 10);
}

int run(const std::string& plugin, const std::string& model) {
  const Demo demo(model);
  const Pjrt pjrt(plugin);
  fmt::print("{}\n{}\n", plugin, pjrt.description());
  const std::unique_ptr<Device> cpu = open_cpu({1});
  const std::vector<Hypothesis> expected = demo.translate(*cpu, true);

  Report report;
  Observed seen;
  HloDevice device(pjrt, Fault::None, seen);
  const std::vector<Hypothesis> actual = demo.translate(device, false);
  print_observed(seen);
  const float off = score_difference(expected, actual);
  for (size_t i = 0; i < actual.size(); ++i) {
    fmt::print("  {} {:.6f} {}\n", fmt::join(actual[i].ids, " "), actual[i].score,
               demo.text(actual[i]));
  }
  report.expect(same_tokens(expected, actual),
                fmt::format("the CPU backend's tokens for {} hypotheses", expected.size()));
  report.expect(off < kScores, fmt::format("scores differ by at most {:.1e}", off));
  report.expect(seen.steps == kSteps, fmt::format("{} steps on the plugin", seen.steps));
  report.expect(seen.in_place, "every cache is updated where it stands");
  for (const auto& [fault, what] : {std::pair(Fault::SwappedAlias, "two aliases swapped"),
                                    std::pair(Fault::MaskOffByOne, "a mask one too long")}) {
    Observed ignored;
    HloDevice faulty(pjrt, fault, ignored);
    const std::vector<Hypothesis> wrong = demo.translate(faulty, false);
    report.expect(!same_tokens(expected, wrong) || score_difference(expected, wrong) > kScores,
                  fmt::format("planted: {}, found by its tokens or scores", what));
  }
  return report.end();
}

}  // namespace
}  // namespace ng::tracer

int main(int argc, char** argv) {
  try {
    ng::check(argc == 3, "usage: hlo_decode PLUGIN.so MODEL_DIR");
    return ng::tracer::run(argv[1], argv[2]);
  } catch (const ng::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_code();
  }
}
