#include "backends/reference/reference.h"

#include <cstring>

#include "base/error.h"
#include "base/thread_pool.h"
#include "ir/interpret.h"
#include "ir/text.h"

namespace ng {
namespace {

class ReferenceExecutable : public Executable {
 public:
  ReferenceExecutable(Graph graph, WeightSource weights, ThreadPool& threads)
      : graph_(std::move(graph)), weights_(std::move(weights)), threads_(threads) {
    for (const Named& in : graph_.inputs()) inputs_.push_back({in.name, graph_.type(in.value)});
    for (const Named& out : graph_.outputs) outputs_.push_back({out.name, graph_.type(out.value)});
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
    const std::map<std::string, Tensor> results = interpret(graph_, std::move(bindings), &threads_);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      const Tensor& result = results.at(outputs_[i].name);
      std::memcpy(outputs[i].data, result.data.data(), result.data.size());
    }
  }

 private:
  Graph graph_;
  std::vector<Port> inputs_, outputs_;
  WeightSource weights_;
  ThreadPool& threads_;
};

class ReferenceDevice : public Device {
 public:
  explicit ReferenceDevice(int threads) : threads_(threads) {}
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    return std::make_unique<ReferenceExecutable>(parse_graph(artifact, "artifact"), weights,
                                                 threads_);
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

}  // namespace ng
