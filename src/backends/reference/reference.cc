#include "backends/reference/reference.h"

#include <cstring>

#include "base/error.h"
#include "base/thread_pool.h"
#include "ir/interpret.h"
#include "ir/replaced.h"
#include "ir/text.h"
#include "tensor/ranks.h"

namespace ng {
namespace {

class ReferenceExecutable : public Executable {
 public:
  ReferenceExecutable(Graph graph, WeightSource weights, ThreadPool* threads, HeldStates* held)
      : graph_(std::move(graph)), weights_(std::move(weights)), threads_(threads) {
    const int64_t ranks = ranks_of(graph_);
    for (const Named& in : graph_.inputs()) {
      const bool written = graph_.find_output(in.name) || graph_.find_output(next_of(in.name));
      if (held == nullptr || (!written && !held->contains(in.name))) {
        inputs_.push_back({in.name, graph_.type(in.value)});
        continue;
      }
      const Type type = of_ranks(graph_.type(in.value), ranks);
      const std::vector<std::byte> zeros(static_cast<size_t>(byte_count(type)));
      Tensor& state = held->emplace(in.name, Tensor::own(type, zeros)).first->second;
      check(state.type == type, "state '{}' is {} in one module, {} in another", shown(in.name),
            to_string(state.type), to_string(type));
      states_[in.name] = &state;
    }
    for (const Named& out : graph_.outputs) {
      const bool state = states_.contains(out.name) || (held != nullptr && is_next(out.name));
      if (!state) outputs_.push_back({out.name, of_ranks(graph_.type(out.value), ranks)});
    }
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    Bindings bindings;
    bindings.weight = weights_;
    NG_CHECK(inputs_.size() == inputs.size(), "{} inputs for {}", inputs.size(), inputs_.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      bindings.inputs[inputs_[i].name] = copy_of(inputs[i]);
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      bindings.counts.bind(outputs_[i].type, outputs[i].type, outputs_[i].name);
    }
    for (const auto& [name, state] : states_) bindings.inputs[name] = *state;
    const std::map<std::string, Tensor> results = interpret(graph_, std::move(bindings), threads_);
    for (const auto& [name, state] : states_) {
      for (const std::string& written : {name, next_of(name)}) {
        if (results.contains(written)) *state = results.at(written);
      }
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      const Tensor& result = results.at(outputs_[i].name);
      std::memcpy(outputs[i].data, result.data.data(), result.data.size());
    }
  }

 private:
  Graph graph_;
  std::vector<Port> inputs_, outputs_;
  std::map<std::string, Tensor*> states_;  // that the caller does not bind
  WeightSource weights_;
  ThreadPool* threads_;
};

class ReferenceDevice : public Device {
 public:
  explicit ReferenceDevice(int threads) : threads_(threads) {}
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    Graph graph = parse_graph(artifact, "artifact");
    check(ranks_of(graph) == 1, "graph {} is for {} ranks, one runs it", shown(graph.name),
          ranks_of(graph));
    return std::make_unique<ReferenceExecutable>(std::move(graph), weights, &threads_, nullptr);
  }
  std::string description() const override {
    return fmt::format("reference ({} threads)", threads_.size());
  }

 private:
  ThreadPool threads_;
};

}  // namespace

std::unique_ptr<Device> open_reference(const DeviceOptions& options) {
  return std::make_unique<ReferenceDevice>(options.threads > 0 ? options.threads
                                                               : available_threads());
}

std::unique_ptr<Executable> interpret_module(Graph graph, WeightSource weights, ThreadPool* threads,
                                             HeldStates& states) {
  return std::make_unique<ReferenceExecutable>(std::move(graph), std::move(weights), threads,
                                               &states);
}

}  // namespace ng
