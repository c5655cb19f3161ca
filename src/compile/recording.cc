#include "compile/recording.h"

#include <cstring>

#include "base/error.h"
#include "ir/interpret.h"
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

}  // namespace ng
