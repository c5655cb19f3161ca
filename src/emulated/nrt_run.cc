// How does the emulated runtime execute a pseudo-NEFF? By the interpreter, node by node.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "backends/xla/import_hlo.h"
#include "backends/xla/legal.h"
#include "base/error.h"
#include "emulated/nrt_objects.h"
#include "emulated/pseudo_neff.h"
#include "ir/interpret.h"

namespace ng::emulated {
namespace {

size_t bytes_of(const Type& type) { return static_cast<size_t>(byte_count(type)); }

template <class T>
bool any_of(const Tensor& tensor, const std::function<bool(T)>& holds) {
  for (size_t at = 0; at + sizeof(T) <= tensor.data.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, tensor.data.data() + at, sizeof value);
    if (holds(value)) return true;
  }
  return false;
}

// The device does not clamp: an index outside is a fault.
bool leaves_table(const Node& node, std::span<const Tensor> inputs) {
  if (node.op != Op::gather_rows && node.op != Op::write_rows) return false;
  const Tensor& indices = inputs[node.op == Op::gather_rows ? 1 : 2];
  const int64_t rows = inputs[0].type.size(0);
  return any_of<int32_t>(indices, [&](int32_t index) { return index < 0 || index >= rows; });
}

bool has_nan(const Tensor& tensor) {
  return tensor.type.dtype == DType::f32 &&
         any_of<float>(tensor, [](float value) { return std::isnan(value); });
}

// For every node the last one that reads it; an output lives to the end.
std::vector<size_t> last_readers(const Graph& graph) {
  std::vector<size_t> last(graph.nodes().size());
  for (size_t at = 0; at < last.size(); ++at) {
    for (const Value& value : graph.nodes()[at].inputs) last[value.node] = at;
  }
  for (const Named& output : graph.outputs) last[output.value.node] = last.size();
  return last;
}

}  // namespace

Program read_program(std::span<const std::byte> neff) {
  Program program;
  program.graph = import_hlo(hlo_of(neff, "NEFF"), "NEFF");
  program.bytes = neff.size();
  program.hash =
      std::hash<std::string_view>()({reinterpret_cast<const char*>(neff.data()), neff.size()});
  const Graph& graph = program.graph;
  for (const Leaf& leaf : parameters(graph)) {
    const Node& node = graph.nodes()[leaf.node];
    const std::string name = module_name({leaf.role, node.attrs.name});
    program.inputs.push_back({name, node.types[0]});
    program.input_of[leaf.node] = name;
    if (leaf.role == Role::state) program.states[name] = node.attrs.name;
  }
  for (const Named& output : graph.outputs) {
    program.outputs.push_back({output.name, graph.type(output.value)});
  }
  return program;
}

namespace {

// The values of one rank, and where they come from.
struct Walk {
  Bound bound;
  std::vector<std::vector<Tensor>> values;

  const Tensor& at(Value value) const { return values[value.node][value.result]; }
  // Whether the node could be computed.
  bool step(uint32_t at) {
    const Program& program = *bound.program;
    const Node& node = program.graph.nodes()[at];
    if (const auto named = program.input_of.find(at); named != program.input_of.end()) {
      const Buffer* buffer =
          bound.inputs->at(named->second);  // a view: nothing writes before the end
      values[at] = {Tensor{node.types[0], nullptr, std::span(buffer->bytes)}};
      return true;
    }
    std::vector<Tensor> given;
    for (const Value& value : node.inputs) given.push_back(this->at(value));
    if (leaves_table(node, given)) return false;
    values[at] = evaluate(node, given, Counts());
    return true;
  }
  // Writes the outputs; whether there is a NaN in them.
  bool end() {
    const Program& program = *bound.program;
    bool nan = false;
    for (size_t i = 0; i < program.outputs.size(); ++i) {
      const Tensor& result = at(program.graph.outputs[i].value);
      nan = nan || has_nan(result);
      std::memmove(bound.outputs->at(program.outputs[i].name)->bytes.data(), result.data.data(),
                   bytes_of(program.outputs[i].type));
    }
    return nan;
  }
};

}  // namespace

nrt::Status run(const std::vector<Bound>& ranks) {
  const Graph& graph = ranks[0].program->graph;
  const std::vector<size_t> last = last_readers(graph);
  std::vector<Walk> walks;
  for (const Bound& bound : ranks) {
    walks.push_back({bound, std::vector<std::vector<Tensor>>(graph.nodes().size())});
  }
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const Node& node = graph.nodes()[at];
    std::vector<Tensor> parts;
    for (Walk& walk : walks) {
      if (node.op == Op::all_reduce) {
        parts.push_back(walk.at(node.inputs[0]));
      } else if (!walk.step(at)) {
        return nrt::kOutOfBounds;
      }
    }
    if (!parts.empty()) parts = {sum_of_ranks(parts)};
    for (Walk& walk : walks) {
      if (!parts.empty()) walk.values[at] = parts;
      for (const Value& value : node.inputs) {
        if (last[value.node] == at) walk.values[value.node].clear();
      }
    }
  }
  bool nan = false;
  for (Walk& walk : walks) nan = walk.end() || nan;
  return nan ? nrt::kNumericalError : nrt::kSuccess;
}

nrt::Status run_together(Runtime& runtime, const Bound& bound) {
  const Program& program = *bound.program;
  Meeting& meeting = runtime.meetings[program.core - static_cast<int32_t>(program.rank)];
  const uint64_t round = meeting.round;
  meeting.waiting[program.rank] = bound;
  if (meeting.waiting.size() == program.ranks) {
    std::vector<Bound> ranks;
    bool same = true;
    for (const auto& [rank, one] : meeting.waiting) {
      same = same && one.program->hash == program.hash;
      ranks.push_back(one);
    }
    meeting.waiting.clear();
    meeting.status = same ? run(ranks) : nrt::kInvalid;
    ++meeting.round;
    runtime.met.notify_all();
    return meeting.status;
  }
  const char* seconds = std::getenv("NEURON_RT_EXEC_TIMEOUT");
  const auto patience = std::chrono::seconds(seconds == nullptr ? 30 : std::atoi(seconds));
  const auto over = [&] { return meeting.round != round; };
  if (runtime.met.wait_for(runtime.mutex, patience, over)) return meeting.status;
  meeting.waiting.erase(program.rank);
  return nrt::kTimeout;
}

}  // namespace ng::emulated
