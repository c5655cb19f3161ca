// How does the emulated runtime execute a pseudo-NEFF? By the interpreter, node by node.
#include <algorithm>
#include <cmath>
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

nrt::Status run(const Program& program, const std::map<std::string, Buffer*>& inputs,
                const std::map<std::string, Buffer*>& outputs) {
  const Graph& graph = program.graph;
  const std::vector<size_t> last = last_readers(graph);
  std::vector<std::vector<Tensor>> values(graph.nodes().size());
  for (size_t at = 0; at < values.size(); ++at) {
    const Node& node = graph.nodes()[at];
    const auto named = program.input_of.find(static_cast<uint32_t>(at));
    if (named != program.input_of.end()) {  // a view: nothing writes before the end
      const Buffer* buffer = inputs.at(named->second);
      values[at] = {Tensor{node.types[0], nullptr, std::span(buffer->bytes)}};
      continue;
    }
    std::vector<Tensor> given;
    for (const Value& value : node.inputs) given.push_back(values[value.node][value.result]);
    if (leaves_table(node, given)) return nrt::kOutOfBounds;
    values[at] = evaluate(node, given, Counts());
    for (const Value& value : node.inputs) {
      if (last[value.node] == at) values[value.node].clear();
    }
  }
  bool nan = false;
  std::vector<Tensor> results;
  for (const Named& output : graph.outputs) {
    results.push_back(values[output.value.node][output.value.result]);
    nan = nan || has_nan(results.back());
  }
  for (size_t i = 0; i < results.size(); ++i) {
    std::memmove(outputs.at(program.outputs[i].name)->bytes.data(), results[i].data.data(),
                 bytes_of(program.outputs[i].type));
  }
  return nan ? nrt::kNumericalError : nrt::kSuccess;
}

}  // namespace ng::emulated
