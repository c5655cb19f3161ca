#include "backends/cpu/cpu.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "backends/cpu/run.h"
#include "base/error.h"
#include "ir/text.h"

namespace ng {
namespace {

// Memory for temporaries: grows, is not initialised, asks for huge pages.
class Arena {
 public:
  ~Arena() { std::free(data_); }
  std::byte* reserve(size_t bytes) {
    constexpr size_t kHuge = size_t{2} << 20;
    if (bytes <= size_) return data_;
    std::free(data_);
    size_ = (bytes + kHuge - 1) / kHuge * kHuge;
    data_ = static_cast<std::byte*>(std::aligned_alloc(kHuge, size_));
    if (data_ == nullptr) {
      const size_t wanted = std::exchange(size_, 0);
      fail("{} bytes of working memory cannot be had: use smaller batches", wanted);
    }
    ::madvise(data_, size_, MADV_HUGEPAGE);
    return data_;
  }
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

class CpuExecutable : public Executable {
 public:
  CpuExecutable(Plan plan, const Kernels& kernels, ThreadPool& threads)
      : plan_(std::move(plan)), kernels_(kernels), threads_(threads) {
    const Graph& graph = plan_.graph;
    for (const Named& in : graph.inputs()) inputs_.push_back({in.name, graph.type(in.value)});
    for (const Named& out : graph.outputs) outputs_.push_back({out.name, graph.type(out.value)});
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }

  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    bind(inputs, outputs);
    arguments_ = inputs;
    results_ = outputs;
    for (const Step& step : plan_.steps) {
      StepRun now{plan_, step, kernels_, threads_, counts_, {}, {}};
      for (const Place& place : step.inputs) now.inputs.push_back(resolve(place));
      for (const Place& place : step.results) now.results.push_back(resolve(place));
      run_step(now);
    }
    for (const Copy& copy : plan_.copies) finish(copy);
  }

 private:
  void bind(std::span<const Argument> inputs, std::span<const Argument> outputs);
  Rows resolve(const Place& place) const;
  void finish(const Copy& copy) const;

  Plan plan_;
  const Kernels& kernels_;
  ThreadPool& threads_;
  std::vector<Port> inputs_, outputs_;
  Counts counts_;
  std::vector<size_t> offsets_;
  Arena arena_;
  std::byte* base_ = nullptr;
  std::span<const Argument> arguments_, results_;  // of the run that is under way
};

void CpuExecutable::bind(std::span<const Argument> inputs, std::span<const Argument> outputs) {
  NG_CHECK(inputs.size() == inputs_.size() && outputs.size() == outputs_.size(),
           "{} inputs and {} outputs bound to {}", inputs.size(), outputs.size(), plan_.graph.name);
  Counts counts;
  for (size_t i = 0; i < inputs.size(); ++i) {
    counts.bind(inputs_[i].type, inputs[i].type, inputs_[i].name);
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data != nullptr) {
      counts.bind(outputs_[i].type, outputs[i].type, outputs_[i].name);
    }
  }
  if (counts == counts_ && !offsets_.empty()) return;
  offsets_ = place_temporaries(plan_, counts);
  base_ = arena_.reserve(offsets_.back());
  counts_ = counts;
}

Rows CpuExecutable::resolve(const Place& place) const {
  const auto with_offset = [&](std::byte* data, DType dtype) {
    return Rows{data + static_cast<size_t>(place.offset) * byte_size(dtype), place.stride};
  };
  switch (place.kind) {
    case Place::Kind::input: {
      const Argument& argument = arguments_[place.index];
      return with_offset(argument.data, argument.type.dtype);
    }
    case Place::Kind::weight: {
      const Tensor& tensor = plan_.weights[place.index];  // kernels only read it
      return with_offset(const_cast<std::byte*>(tensor.data.data()), tensor.type.dtype);
    }
    case Place::Kind::temporary: break;
  }
  const Temporary& temporary = plan_.temporaries[place.index];
  std::byte* lent = temporary.output < 0 ? nullptr : results_[temporary.output].data;
  return with_offset(lent != nullptr ? lent : base_ + offsets_[place.index], temporary.type.dtype);
}

void CpuExecutable::finish(const Copy& copy) const {
  const Argument& to = results_[copy.output];
  if (to.data == nullptr) return;
  const Rows from = resolve(copy.from);
  if (copy.state) {
    NG_CHECK(from.data == to.data, "state {} is not bound in place", outputs_[copy.output].name);
    return;
  }
  const size_t item = byte_size(to.type.dtype);
  const auto rows = static_cast<size_t>(to.type.rank() == 0 ? 1 : to.type.size(0));
  const size_t row = rows == 0 ? 0 : static_cast<size_t>(byte_count(to.type)) / rows;
  for (size_t r = 0; r < rows; ++r) {
    std::memcpy(to.data + r * row, from.data + r * static_cast<size_t>(from.stride) * item, row);
  }
}

class CpuDevice : public Device {
 public:
  CpuDevice(const Kernels& kernels, int threads) : kernels_(kernels), threads_(threads) {}
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    return std::make_unique<CpuExecutable>(make_plan(parse_graph(artifact, "artifact"), weights),
                                           kernels_, threads_);
  }
  std::string description() const override {
    return fmt::format("cpu ({}, {} threads)", kernels_.name, threads_.size());
  }

 private:
  const Kernels& kernels_;
  ThreadPool threads_;
};

std::string kernel_names() {
  std::string names;
  const KernelList list = all_kernels();
  for (size_t i = 0; i < list.size; ++i) {
    if (list.begin[i]->supported()) names += fmt::format(" {}", list.begin[i]->name);
  }
  return names;
}

}  // namespace

std::unique_ptr<Device> open_cpu(const DeviceOptions& options) {
  const char* wanted = std::getenv("NEUROGLOT_ISA");
  const Kernels* kernels = select_kernels(wanted);
  check(kernels != nullptr, "NEUROGLOT_ISA={}: this CPU and build have:{}",
        shown(wanted == nullptr ? "" : wanted), kernel_names());
  return std::make_unique<CpuDevice>(*kernels,
                                     options.threads > 0 ? options.threads : available_threads());
}

}  // namespace ng
