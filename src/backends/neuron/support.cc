#include "backends/neuron/support.h"

#include <algorithm>
#include <limits>

#include "backends/neuron/target.h"
#include "base/error.h"

namespace ng {
namespace {

constexpr int64_t kTopKWidth = 16384, kTopKMultiple = 8, kMostTopK = 16384;

const Type& operand(const Graph& graph, const Node& node, size_t i) {
  return graph.type(node.inputs[i]);
}

// The values that an s32 value may have, as far as its making tells.
struct Interval {
  int64_t least = std::numeric_limits<int32_t>::min();
  int64_t most = std::numeric_limits<int32_t>::max();
};

Interval interval_of(const Graph& graph, Value value, int depth = 0) {
  const Node& node = graph[value];
  const auto of = [&](size_t i) { return interval_of(graph, node.inputs[i], depth + 1); };
  if (depth > 16) return {};
  switch (node.op) {
    case Op::constant: {
      const auto number = static_cast<int64_t>(node.attrs.values[0]);
      return {number, number};
    }
    case Op::iota: return {0, node.types[0].size(static_cast<int>(node.attrs.axis)) - 1};
    case Op::top_k: return {0, operand(graph, node, 0).size(1) - 1};
    case Op::minimum: {
      const Interval a = of(0), b = of(1);
      return {std::min(a.least, b.least), std::min(a.most, b.most)};
    }
    case Op::maximum: {
      const Interval a = of(0), b = of(1);
      return {std::max(a.least, b.least), std::max(a.most, b.most)};
    }
    case Op::broadcast:
    case Op::reshape:
    case Op::transpose:
    case Op::slice: return of(0);
    default: return {};
  }
}

std::string index_restriction(const Graph& graph, Value index, int64_t rows) {
  const Interval interval = interval_of(graph, index);
  if (interval.least >= 0 && interval.most < rows) return "";
  return fmt::format(
      "its indices are not clamped into [0, {}]: one outside ends the execution (NRT_EXEC_OOB, "
      "#1335)",
      rows - 1);
}

std::string gather_restriction(const Graph& graph, const Node& node) {
  const Type& table = operand(graph, node, 0);
  if (table.rank() != 2) {
    return fmt::format(
        "its table has {} axes: whole rows of a matrix are the form that works "
        "(transformers-neuronx, _embedding)",
        table.rank());
  }
  return index_restriction(graph, node.inputs[1], table.size(0));
}

std::string scatter_restriction(const Graph& graph, const Node& node) {
  return index_restriction(graph, node.inputs[2], node.types[0].size(0));
}

std::string dot_restriction(const Graph& graph, const Node& node) {
  for (size_t i = 0; i < 2; ++i) {
    const DType dtype = operand(graph, node, i).dtype;
    if (dtype == DType::s32) return "integers are multiplied as f32 (NCC_EVRF035)";
  }
  return "";
}

std::string divide_restriction(const Graph& graph, const Node& node) {
  if (operand(graph, node, 0).dtype != DType::s32) return "";
  return "quotients of integers were off by one before neuronx-cc 2.25 (SDK 2.30)";
}

std::string top_k_restriction(const Graph& graph, const Node& node) {
  const Type& x = operand(graph, node, 0);
  const int64_t k = node.types[0].size(-1);
  if (x.dtype == DType::s32) return "it ranks floats only (NCC_EVRF013)";
  if (x.rank() != 2) return fmt::format("it ranks rows of a matrix, not {} axes (#1339)", x.rank());
  if (x.size(1) % kTopKMultiple != 0) {
    return fmt::format("{} columns are not a multiple of {} (transformers-neuronx, TopK)",
                       x.size(1), kTopKMultiple);
  }
  if (x.size(1) > kTopKWidth) {
    return fmt::format("{} columns: {} are known to work (NCC_INAS001, NCC_ISGV902 at 32768)",
                       x.size(1), kTopKWidth);
  }
  if (k > kMostTopK || k > x.size(1)) return fmt::format("k = {} (NCC_EVRF014, #1339)", k);
  return "";
}

using enum Support;
constexpr std::string_view kTable = "SDK, table of supported operators";
constexpr std::string_view kPrepared = "made by compile, once, on the CPU";
constexpr std::string_view kLegalized = "legalize writes it in primitives";

constexpr SupportRow kSupport[] = {
    {Op::input, "parameter", supported, nullptr, "nkipy hlo.py"},
    {Op::weight, "parameter", supported, nullptr, "parameters, since literals end at 2 GB (#582)"},
    {Op::constant, "constant", supported, nullptr, kTable},
    {Op::iota, "iota", supported, nullptr, kTable},
    {Op::frequencies, "", unsupported, nullptr, kPrepared},
    {Op::add, "add", supported, nullptr, kTable},
    {Op::subtract, "subtract", supported, nullptr, kTable},
    {Op::multiply, "multiply", supported, nullptr, kTable},
    {Op::divide, "divide", restricted, divide_restriction, kTable},
    {Op::maximum, "maximum", supported, nullptr, kTable},
    {Op::minimum, "minimum", supported, nullptr, kTable},
    {Op::exp, "exponential", supported, nullptr, kTable},
    {Op::log, "log", supported, nullptr, kTable},
    {Op::sqrt, "sqrt", supported, nullptr, kTable},
    {Op::erf, "erf", unsupported, nullptr,
     "there is no opcode erf; the custom call AwsNeuronErf (SDK error-codes/EVRF015) is not "
     "emitted"},
    {Op::sin, "sine", supported, nullptr, kTable},
    {Op::cos, "cosine", supported, nullptr, kTable},
    {Op::select_less, "compare select", supported, nullptr, kTable},
    {Op::convert, "convert", supported, nullptr, kTable},
    {Op::broadcast, "broadcast", supported, nullptr, kTable},
    {Op::reshape, "reshape", supported, nullptr, kTable},
    {Op::transpose, "transpose", supported, nullptr, kTable},
    {Op::concatenate, "concatenate", supported, nullptr, kTable},
    {Op::slice, "slice", supported, nullptr, kTable},
    {Op::pack, "", unsupported, nullptr, kPrepared},
    {Op::unpack, "", unsupported, nullptr, kPrepared},
    {Op::dot, "dot", restricted, dot_restriction, "floats only (SDK error-codes/EVRF035)"},
    {Op::reduce_sum, "constant reduce", supported, nullptr, "body add, constant init: the table"},
    {Op::reduce_max, "constant reduce", supported, nullptr, "body max, constant init: the table"},
    {Op::gather_rows, "gather", restricted, gather_restriction,
     "whole rows at clamped s32 indices (#1335); published for one axis of indices "
     "(transformers-neuronx, _embedding), assumed for more"},
    {Op::write_rows, "scatter", restricted, scatter_restriction,
     "whole rows replaced at clamped s32 indices (transformers-neuronx, update_cache; #1335)"},
    {Op::top_k, "custom-call get-tuple-element get-tuple-element", restricted, top_k_restriction,
     "AwsNeuronTopK: rows of floats, at most 16384 wide as measured on trn2 (#1339); ties in any "
     "order"},
    {Op::all_reduce, "all-reduce", supported, nullptr,
     "body add, floats: the table; its NEFF is loaded with nrt_load_collectives"},
    {Op::embed, "", decomposed, nullptr, kLegalized},
    {Op::layer_norm, "", decomposed, nullptr, kLegalized},
    {Op::linear, "", decomposed, nullptr, kLegalized},
    {Op::activate, "", decomposed, nullptr, kLegalized},
    {Op::attend, "", decomposed, nullptr, kLegalized},
    {Op::log_sum_exp, "", decomposed, nullptr, kLegalized},
    {Op::project_top_k, "", decomposed, nullptr, "legalize ranks a vocabulary in two stages"},
};

std::string type_objection(const Type& type) {
  if (type.counted()) return "its size is not fixed (NCC_EMOD025, #1144)";
  const DType dtype = type.dtype;
  if (dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::s32) return "";
  return fmt::format("{} is not emitted: 64-bit types are cut (NCC_ESFH002)", name(dtype));
}

}  // namespace

std::string_view name(Support support) {
  constexpr std::string_view kNames[] = {"supported", "decomposed", "restricted", "unsupported"};
  return kNames[static_cast<size_t>(support)];
}

std::span<const SupportRow> support_table() { return kSupport; }

std::string objection(std::string_view target, const Graph& graph, uint32_t node) {
  if (target == "pjrt") return "";
  const NeuronTarget& known = find_neuron_target(target);
  const Node& of = graph.nodes()[node];
  const SupportRow& row = support(of.op);
  if (row.targets.find(known.name) == std::string_view::npos) {
    return fmt::format("nothing is published of it for {}", known.name);
  }
  if (row.level == unsupported) return std::string(row.reason);
  if (row.level == decomposed) return "is a composite: legalize puts primitives in its place";
  for (const Type& type : of.types) {
    if (std::string found = type_objection(type); !found.empty()) return found;
  }
  return row.restriction == nullptr ? "" : row.restriction(graph, of);
}

}  // namespace ng
