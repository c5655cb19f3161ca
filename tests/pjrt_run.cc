// Does a PJRT plugin compute what the interpreter does?
//   pjrt_run PLUGIN [hlo|mlir]
// Legal graphs, some written out and many random, each several steps with its states on the device.
// Last line: pjrt: N passed, N failed.
#include <cmath>
#include <cstring>

#include "backends/pjrt/pjrt.h"
#include "backends/xla/emit_hlo.h"
#include "backends/xla/random_legal_for_test.h"
#include "base/error.h"

namespace ng {
namespace {

constexpr int kRandomGraphs = 40, kSteps = 3;
constexpr double kTolerance = 2e-5;  // of f32, where sums are ordered in another way
using Tensors = std::map<std::string, Tensor>;

double number(const Tensor& tensor, size_t i) {
  const std::byte* at = tensor.data.data() + i * byte_size(tensor.type.dtype);
  if (tensor.type.dtype == DType::bf16) {
    uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return bf16_to_f32(bits);
  }
  if (tensor.type.dtype == DType::s32) {
    int32_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// s32 exactly, bf16 up to its last bit.
std::string difference(const Tensor& expected, const Tensor& found) {
  for (size_t i = 0; i < static_cast<size_t>(element_count(expected.type.shape)); ++i) {
    const double a = number(expected, i), b = number(found, i);
    const DType dtype = expected.type.dtype;
    const double allowed =
        dtype == DType::s32 ? 0 : (dtype == DType::bf16 ? 0.008 : kTolerance) * (1 + std::abs(a));
    if (!(std::abs(a - b) <= allowed)) {
      return fmt::format("{} {} is {}, the interpreter's {}", to_string(expected.type), i, b, a);
    }
  }
  return "";
}

// One step on the device, and the interpreter's; `tensors` gets its states.
std::string step(Executable& executable, const Graph& graph, Tensors& tensors) {
  Tensors expected = results_of(graph, tensors);
  std::vector<Argument> inputs, outputs;
  for (const Port& port : executable.inputs()) {
    // run() reads its inputs alone.
    const std::byte* bytes = tensors.at(port.name).data.data();
    inputs.push_back({port.type, const_cast<std::byte*>(bytes)});
  }
  std::vector<std::vector<std::byte>> room;
  for (const Port& port : executable.outputs()) {
    outputs.push_back({port.type, room.emplace_back(byte_count(port.type)).data()});
  }
  executable.run(inputs, outputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string& name = executable.outputs()[i].name;
    const std::string wrong = difference(expected.at(name), copy_of(outputs[i]));
    if (!wrong.empty()) return fmt::format("output '{}': {}", name, wrong);
  }
  for (const Named& in : graph.inputs()) {
    if (expected.contains(in.name)) tensors[in.name] = expected[in.name];
  }
  return "";
}

// "" or what is wrong with a graph's first steps, each with other inputs.
std::string compare(const PjrtOptions& options, const Graph& graph, uint64_t seed) {
  Tensors tensors = random_tensors(graph, seed);
  const Tensors weights = tensors;
  for (const Named& output : graph.outputs) {  // states begin as zeros
    const auto state = tensors.find(output.name);
    if (state == tensors.end()) continue;
    state->second =
        Tensor::own(state->second.type, std::vector<std::byte>(state->second.data.size()));
  }
  const std::unique_ptr<Device> device = open_pjrt(options);
  const std::unique_ptr<Executable> executable = device->load(
      emit_hlo(graph, HloDialect::xla), [&](const std::string& name) { return weights.at(name); });
  for (int i = 0; i < kSteps; ++i) {
    const std::string wrong = step(*executable, graph, tensors);
    if (!wrong.empty()) return fmt::format("step {}: {}", i, wrong);
    const Tensors more = random_tensors(graph, seed + 1000 * (i + 1));
    for (const Port& port : executable->inputs()) tensors[port.name] = more.at(port.name);
  }
  return "";
}

Value filled(Graph& g, double value, const Type& type) {
  return broadcast(g, constant(g, {value}, {type.dtype, {}}), type.shape, {});
}
Value clamped(Graph& g, Value ids, int64_t rows) {
  const Type type = g.type(ids);
  const Value low = elementwise(g, Op::maximum, {ids, filled(g, 0, type)});
  return elementwise(g, Op::minimum, {low, filled(g, static_cast<double>(rows - 1), type)});
}

std::vector<Graph> written_graphs() {
  std::vector<Graph> graphs;
  Graph& sums = graphs.emplace_back("elementwise");
  const Value x = input(sums, "x", {DType::f32, {3, 5}}),
              w = weight(sums, "w", {DType::f32, {3, 5}});
  const Value sum = elementwise(sums, Op::add, {x, w});
  sums.outputs = {{"exp", elementwise(sums, Op::exp, {sum})},
                  {"half", convert(sums, sum, DType::bf16)}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Graph& product = graphs.emplace_back("dot");
    const Value a = input(product, "a", {dtype, {2, 3, 8}});
    product.outputs = {{"y", dot(product, a, weight(product, "b", {dtype, {2, 5, 8}}))}};
  }
  Graph& rows = graphs.emplace_back("gather");
  const Value ids = input(rows, "ids", {DType::s32, {2, 3}});
  const Value table = weight(rows, "table", {DType::bf16, {6, 4}});
  rows.outputs = {{"rows", gather_rows(rows, table, clamped(rows, ids, 6))}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Graph& cache = graphs.emplace_back("scatter");
    const Value state = input(cache, "cache", {dtype, {5, 4}});
    const Value row = input(cache, "row", {dtype, {1, 4}});
    const Value index = clamped(cache, input(cache, "index", {DType::s32, {1}}), 5);
    const Value written = write_rows(cache, state, row, index);
    const Value all = input(cache, "all", {DType::s32, {5}});
    cache.outputs = {{"cache", written},
                     {"read", gather_rows(cache, written, clamped(cache, all, 5))}};
  }
  Graph& best = graphs.emplace_back("top_k");
  const Value top = top_k(best, input(best, "scores", {DType::f32, {3, 40}}), 7);
  best.outputs = {{"scores_out", top}, {"ids", {top.node, 1}}};
  return graphs;
}

int run(const PjrtOptions& options) {
  fmt::print("{}\n", open_pjrt(options)->description());
  std::vector<Graph> graphs = written_graphs();
  for (uint64_t seed = 1; seed <= kRandomGraphs; ++seed) {
    graphs.push_back(RandomLegal(seed).graph(30));
  }
  int passed = 0, failed = 0;
  for (size_t i = 0; i < graphs.size(); ++i) {
    std::string wrong;
    try {
      wrong = compare(options, graphs[i], i + 1);
    } catch (const Error& error) {
      wrong = error.what();
    }
    ++(wrong.empty() ? passed : failed);
    if (!wrong.empty()) fmt::print("FAILED: graph {}: {}\n", graphs[i].name, wrong);
  }
  fmt::print("pjrt: {} passed, {} failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  try {
    const std::string format = argc > 2 ? argv[2] : "";
    ng::check(argc == 2 || format == "hlo" || format == "mlir",
              "usage: pjrt_run PLUGIN [hlo|mlir]");
    return ng::run({argv[1], format.empty()    ? ng::PjrtFormat::any
                             : format == "hlo" ? ng::PjrtFormat::hlo
                                               : ng::PjrtFormat::mlir});
  } catch (const ng::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_code();
  }
}
