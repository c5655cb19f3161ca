#include "compile/recording.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/xla/import_hlo.h"
#include "base/error.h"
#include "ir/interpret.h"
#include "ir/replaced.h"
#include "ir/text.h"

namespace ng {
namespace {

class RecordingExecutable : public Executable {
 public:
  RecordingExecutable(std::unique_ptr<Executable> inner, std::vector<Recorded>& runs,
                      const std::function<bool(const std::string&)>& wanted)
      : inner_(std::move(inner)), runs_(runs), wanted_(wanted) {}
  const std::vector<Port>& inputs() const override { return inner_->inputs(); }
  const std::vector<Port>& outputs() const override { return inner_->outputs(); }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    Counts counts;
    for (size_t i = 0; i < inputs.size(); ++i) {
      counts.bind(this->inputs()[i].type, inputs[i].type, this->inputs()[i].name);
    }
    std::vector<Argument> bound(outputs.begin(), outputs.end());
    std::vector<std::vector<std::byte>> memory(outputs.size());
    for (size_t i = 0; i < bound.size(); ++i) {
      const Port& port = this->outputs()[i];
      if (bound[i].data != nullptr || !wanted_(port.name)) continue;
      bound[i].type = counts.resolve(port.type);
      memory[i].resize(static_cast<size_t>(byte_count(bound[i].type)));
      bound[i].data = memory[i].data();
    }
    inner_->run(inputs, bound);
    Recorded recorded;
    for (size_t i = 0; i < bound.size(); ++i) {
      const std::string& name = this->outputs()[i].name;
      if (bound[i].data != nullptr && wanted_(name)) recorded[name] = copy_of(bound[i]);
    }
    runs_.push_back(std::move(recorded));
  }

 private:
  std::unique_ptr<Executable> inner_;
  std::vector<Recorded>& runs_;
  const std::function<bool(const std::string&)>& wanted_;
};

std::string output_name(Value value) { return fmt::format("%{}.{}", value.node, value.result); }

bool is_state(const Graph& graph, const Named& output) {
  return graph.find_input(output.name).has_value();
}

class CheckingExecutable : public Executable {
 public:
  CheckingExecutable(CheckingDevice& device, ThreadPool& threads, Graph graph, WeightSource weights)
      : device_(device), threads_(threads), graph_(std::move(graph)), weights_(std::move(weights)) {
    for (const Named& in : graph_.inputs()) inputs_.push_back({in.name, graph_.type(in.value)});
    for (const Named& out : graph_.outputs) outputs_.push_back({out.name, graph_.type(out.value)});
  }
  // `graph_` with the result of every node that computes as an output. States stay as they are.
  Graph extended();
  void use(std::unique_ptr<Executable> inner) { inner_ = std::move(inner); }

  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override;

 private:
  void check_nodes();
  void compare(uint32_t at, const std::vector<Tensor>& expected);

  CheckingDevice& device_;
  ThreadPool& threads_;
  Graph graph_;
  WeightSource weights_;
  std::unique_ptr<Executable> inner_;
  std::vector<Port> inputs_, outputs_;
  std::map<Value, size_t> extended_at_;  // value → output of the inner executable
  Counts counts_;
  std::map<Value, Tensor> values_;  // of the run that is being checked
};

Graph CheckingExecutable::extended() {
  Graph out = graph_;
  std::erase_if(out.outputs, [&](const Named& output) { return !is_state(graph_, output); });
  const std::vector<bool> live = live_nodes(graph_);
  for (uint32_t at = 0; at < live.size(); ++at) {
    const Node& node = graph_.nodes()[at];
    const bool computes = row(node.op).kind != OpKind::leaf && node.op != Op::write_rows;
    if (!live[at] || !computes) continue;
    for (uint8_t i = 0; i < node.types.size(); ++i) {
      extended_at_[{at, i}] = out.outputs.size();
      out.outputs.push_back({output_name({at, i}), {at, i}});
    }
  }
  return out;
}

void CheckingExecutable::run(std::span<const Argument> inputs, std::span<const Argument> outputs) {
  counts_ = Counts();
  values_.clear();
  const std::vector<Named> names = graph_.inputs();
  std::map<std::string, Argument> states;
  for (size_t i = 0; i < inputs.size(); ++i) {
    counts_.bind(inputs_[i].type, inputs[i].type, inputs_[i].name);
    values_[names[i].value] = copy_of(inputs[i]);
    states[inputs_[i].name] = inputs[i];
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data != nullptr) {
      counts_.bind(outputs_[i].type, outputs[i].type, outputs_[i].name);
    }
  }
  std::vector<Argument> bound;
  std::vector<std::vector<std::byte>> memory(inner_->outputs().size());
  for (size_t i = 0; i < memory.size(); ++i) {
    const Port& port = inner_->outputs()[i];
    if (const auto state = states.find(port.name); state != states.end()) {
      bound.push_back(state->second);
      continue;
    }
    const Type type = counts_.resolve(port.type);
    memory[i].resize(static_cast<size_t>(byte_count(type)));
    bound.push_back({type, memory[i].data()});
  }
  inner_->run(inputs, bound);
  for (const auto& [value, at] : extended_at_) values_[value] = copy_of(bound[at]);
  for (const Named& output : graph_.outputs) {
    if (is_state(graph_, output)) values_[output.value] = copy_of(states.at(output.name));
  }
  check_nodes();
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data == nullptr || is_state(graph_, graph_.outputs[i])) continue;
    const Tensor& value = values_.at(graph_.outputs[i].value);
    std::memcpy(outputs[i].data, value.data.data(), value.data.size());
  }
}

void CheckingExecutable::check_nodes() {
  const std::vector<bool> live = live_nodes(graph_);
  for (uint32_t at = 0; at < live.size(); ++at) {
    const Node& node = graph_.nodes()[at];
    if (!live[at] || node.op == Op::input) continue;
    if (node.op == Op::weight) {
      values_[{at, 0}] = weights_(node.attrs.name);
      continue;
    }
    std::vector<Tensor> inputs;
    for (const Value& value : node.inputs) inputs.push_back(values_.at(value));
    const std::vector<Tensor> expected = evaluate(node, inputs, counts_, &threads_);
    if (row(node.op).kind == OpKind::leaf) {
      values_[{at, 0}] = expected[0];
    } else {
      compare(at, expected);
    }
  }
}

void CheckingExecutable::compare(uint32_t at, const std::vector<Tensor>& expected) {
  ++device_.nodes_checked;
  for (uint8_t i = 0; i < expected.size(); ++i) {
    const Tensor& found = values_.at({at, i});
    const size_t item = byte_size(found.type.dtype);
    for (size_t byte = 0; byte < found.data.size(); byte += item) {
      if (std::memcmp(&found.data[byte], &expected[i].data[byte], item) == 0) continue;
      Difference difference{graph_.name, fmt::format("%{} {}", at, row(graph_.nodes()[at].op).name),
                            byte / item, 0, 0};
      if (item == sizeof(float)) {
        std::memcpy(&difference.device, &found.data[byte], item);
        std::memcpy(&difference.interpreter, &expected[i].data[byte], item);
      }
      device_.differences.push_back(std::move(difference));
      return;
    }
  }
}

// Layers by their numbers, what has none last.
std::vector<std::string> tap_order(const Recorded& recorded) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : recorded) names.push_back(name);
  const auto place = [](const std::string& name) {
    const size_t dot = name.find('.');
    return dot == std::string::npos ? 1 << 20 : std::stoi(name.substr(dot + 1));
  };
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
  return names;
}

// How far `found` is off where it is farthest, of the largest expected value; a NaN infinitely.
struct Deviation {
  double relative = 0;
  uint64_t element = 0;
  float found = 0, expected = 0;
};

float value_at(const Tensor& tensor, size_t at) {  // f32 or bf16
  const size_t item = byte_size(tensor.type.dtype);
  uint32_t bits = 0;
  std::memcpy(&bits, &tensor.data[at * item], item);
  return item == 2 ? bf16_to_f32(static_cast<uint16_t>(bits)) : std::bit_cast<float>(bits);
}

// With `rows`, of those alone.
Deviation deviation(const Tensor& found, const Tensor& expected,
                    const std::vector<bool>& rows = {}) {
  const size_t count = expected.data.size() / byte_size(expected.type.dtype);
  Deviation worst;
  double largest = 0;
  for (size_t at = 0; at < count; ++at) {
    if (!rows.empty() && !rows[at / (count / rows.size())]) continue;
    const float a = value_at(found, at), b = value_at(expected, at);
    if (a == b && b == std::numeric_limits<float>::lowest()) continue;  // banned
    const double far = std::isnan(a) ? INFINITY : std::abs(double{a} - b);
    largest = std::max(largest, std::abs(double{b}));
    if (far > worst.relative) worst = {far, at, a, b};
  }
  if (largest > 0) worst.relative /= largest;
  return worst;
}

// What the interpreter scores the ids that the device found; one that it did not find, no higher
// than its last.
Tensor rescored(const Tensor& found, const Tensor& ids, const Tensor& scores) {
  std::vector<float> result;
  const auto k = static_cast<size_t>(ids.type.size(1));
  const auto* wanted = reinterpret_cast<const int32_t*>(found.data.data());
  const auto* known = reinterpret_cast<const int32_t*>(ids.data.data());
  for (size_t at = 0; at < ids.data.size() / sizeof(int32_t); ++at) {
    const auto *row = known + at / k * k, *place = std::find(row, row + k, wanted[at]);
    result.push_back(value_at(scores, static_cast<size_t>(std::min(place, row + k - 1) - known)));
  }
  return Tensor::of<float>(DType::f32, scores.type.shape, result);
}

}  // namespace

std::unique_ptr<Executable> RecordingDevice::load(std::string_view artifact,
                                                  const WeightSource& weights) {
  return std::make_unique<RecordingExecutable>(inner_.load(artifact, weights), runs, wanted_);
}

std::unique_ptr<Executable> CheckingDevice::load(std::string_view artifact,
                                                 const WeightSource& weights) {
  auto made = std::make_unique<CheckingExecutable>(*this, threads_,
                                                   parse_graph(artifact, "artifact"), weights);
  made->use(inner_.load(print(made->extended()), weights));
  return made;
}

bool is_tap(const std::string& name) {
  return name.starts_with("encoder.") || name.starts_with("decoder.") || name == "hidden" ||
         name == "logits";
}

std::vector<std::pair<std::string, double>> compare_runs(const std::vector<Recorded>& found,
                                                         const std::vector<Recorded>& expected) {
  NG_CHECK(found.size() == expected.size(), "{} runs and {}", found.size(), expected.size());
  std::vector<std::pair<std::string, double>> taps;
  for (size_t run = 0; run < found.size(); ++run) {
    for (const std::string& tap : tap_order(expected[run])) {
      const Tensor& wanted = expected[run].at(tap);
      const auto same = found[run].find(tap);  // a model of another size has another, or none
      const bool comparable = same != found[run].end() && same->second.type == wanted.type;
      const double error = comparable ? deviation(same->second, wanted).relative : INFINITY;
      auto at =
          std::find_if(taps.begin(), taps.end(), [&](const auto& e) { return e.first == tap; });
      if (at == taps.end()) at = taps.insert(at, {tap, 0.0});
      at->second = std::max(at->second, error);
    }
  }
  return taps;
}

std::unique_ptr<Executable> ModuleInterpreter::load(std::string_view artifact,
                                                    const WeightSource& weights) {
  return interpret_module(import_hlo(artifact, "artifact"), weights, &threads_, states_);
}

class ModuleChecker::Module : public Executable {
 public:
  Module(ModuleChecker& checker, const Graph& graph, std::unique_ptr<Executable> inner,
         std::unique_ptr<Executable> interpreted)
      : checker_(checker),
        name_(graph.name),
        inner_(std::move(inner)),
        interpreted_(std::move(interpreted)) {
    for (const Named& out : graph.outputs) {
      if (is_state(graph, out)) states_.push_back(out.name);
      if (is_next(out.name)) states_.push_back(out.name.substr(0, out.name.rfind('.')));
    }
  }
  const std::vector<Port>& inputs() const override { return inner_->inputs(); }
  const std::vector<Port>& outputs() const override { return inner_->outputs(); }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override;

 private:
  void compare(const std::string& what, const Tensor& found, const Tensor& expected,
               const std::vector<bool>& rows);

  ModuleChecker& checker_;
  const std::string name_;
  const std::unique_ptr<Executable> inner_, interpreted_;
  std::vector<std::string> states_;
};

void ModuleChecker::Module::run(std::span<const Argument> inputs,
                                std::span<const Argument> outputs) {
  inner_->run(inputs, outputs);
  std::vector<std::vector<std::byte>> memory;
  std::vector<Argument> bound(outputs.begin(), outputs.end());
  for (Argument& output : bound) {
    output.data = memory.emplace_back(static_cast<size_t>(byte_count(output.type))).data();
  }
  interpreted_->run(inputs, bound);
  std::vector<bool> asked;  // of the rows of a step, for each rank
  const StaticSizes& sizes = checker_.sizes_;
  for (size_t i = 0; i < inputs.size() * static_cast<size_t>(sizes.ranks); ++i) {
    const size_t input = i % inputs.size();
    if (this->inputs()[input].name != "cache_index") continue;
    const auto* index = reinterpret_cast<const int32_t*>(inputs[input].data);
    for (int64_t r = 0; r < inputs[input].type.size(0); ++r)
      asked.push_back(index[r] != sizes.sink());
  }
  std::map<std::string, std::pair<Tensor, Tensor>> results;  // the device's, the interpreter's
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data == nullptr) continue;
    results[this->outputs()[i].name] = {copy_of(outputs[i]), copy_of(bound[i])};
  }
  if (const auto ids = results.find("ids"); ids != results.end()) {
    const auto& [found, expected] = results.at("scores");
    ids->second = {found, rescored(ids->second.first, ids->second.second, expected)};
  }
  for (const std::string& name : states_) {
    const Tensor found = checker_.inner_.state(name);
    Tensor& expected = checker_.interpreter_.states_.at(name);
    std::vector<bool> rows(static_cast<size_t>(expected.type.size(0)), true);
    for (int64_t at = sizes.sink(); !asked.empty() && at < std::ssize(rows);
         at += sizes.cache_rows()) {
      rows[static_cast<size_t>(at)] = false;
    }
    compare(name, found, expected, rows);
    expected = found;  // what the next run begins with
  }
  for (const auto& [name, pair] : results) compare(name, pair.first, pair.second, asked);
}

void ModuleChecker::Module::compare(const std::string& what, const Tensor& found,
                                    const Tensor& expected, const std::vector<bool>& rows) {
  NG_CHECK(found.type == expected.type, "{}: {} and {}", what, to_string(found.type),
           to_string(expected.type));
  const Deviation worst = deviation(found, expected, rows);
  double& most = checker_.modules[name_];
  most = std::max(most, worst.relative);
  auto& all = checker_.differences;
  const bool known = std::any_of(all.begin(), all.end(), [&](const Difference& difference) {
    return difference.phase == name_ && difference.node == what;
  });
  if (worst.relative <= checker_.tolerance_ || known) return;
  all.push_back({name_, what, worst.element, worst.found, worst.expected});
}

std::unique_ptr<Executable> ModuleChecker::load(std::string_view artifact,
                                                const WeightSource& weights) {
  return std::make_unique<Module>(*this, import_hlo(artifact, "artifact"),
                                  inner_.load(artifact, weights),
                                  interpreter_.load(artifact, weights));
}

}  // namespace ng
