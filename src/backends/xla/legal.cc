#include "backends/xla/legal.h"

#include <cfloat>
#include <cmath>
#include <set>

#include "base/error.h"

namespace ng {
namespace {

constexpr std::string_view kStateSuffix = ".must_alias_input", kWeightPrefix = "weight.";

bool is_plain_text(std::string_view text) { return shown(text, text.size() + 1) == text; }

// What a scalar of the dtype holds of a finite value; NaN when it holds nothing like it.
double held(DType dtype, double value) {
  if (dtype == DType::s32) return value == static_cast<int32_t>(value) ? value : NAN;
  if (std::abs(value) > FLT_MAX) return NAN;
  auto narrow = static_cast<float>(value);
  if (dtype == DType::bf16) narrow = bf16_to_f32(f32_to_bf16(narrow));
  return std::isfinite(narrow) ? 0.0 + static_cast<double>(narrow) : NAN;  // 0.0 + -0.0 is 0.0
}

bool keeps_everything(const Graph& graph, const Node& node) {
  return node.op == Op::slice && graph.type(node.inputs[0]) == node.types[0];
}

bool is_hlo_type(const Type& type) {
  const DType dtype = type.dtype;
  return !type.counted() && (dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::s32);
}

std::string constant_objection(const Node& node) {
  if (node.types[0].rank() != 0) return "is no scalar";
  const double value = node.attrs.values[0];
  const bool fits = (value >= -0x1p31 && value < 0x1p31) || node.types[0].dtype != DType::s32;
  if (!fits || std::isnan(held(node.types[0].dtype, value))) {
    return fmt::format("is {}, which {} does not hold", value, name(node.types[0].dtype));
  }
  return "";
}

std::string broadcast_objection(const Graph& graph, const Node& node) {
  const Shape& from = graph.type(node.inputs[0]).shape;
  for (size_t i = 0; i < from.size(); ++i) {
    const auto axis = static_cast<size_t>(node.attrs.dims[i]);
    if (from[i] != node.types[0].shape[axis]) return fmt::format("stretches axis {}", axis);
  }
  return "";
}

// Of one node; "" where there is none.
std::string node_objection(const Graph& graph, const Node& node) {
  for (const Type& type : node.types) {
    if (!is_hlo_type(type)) return fmt::format("is {}", to_string(type));
  }
  if (row(node.op).kind == OpKind::composite) return "is a composite";
  switch (node.op) {
    case Op::frequencies:
    case Op::pack:
    case Op::unpack: return "is no op of HLO";
    case Op::constant: return constant_objection(node);
    case Op::broadcast: return broadcast_objection(graph, node);
    case Op::dot:
      if (graph.type(node.inputs[0]).dtype != graph.type(node.inputs[1]).dtype) {
        return "has operands of two dtypes";
      }
      return "";
    case Op::reduce_max:
      if (graph.type(node.inputs[0]).size(-1) == 0) return "is of nothing";
      return "";
    default: return "";
  }
}

std::string leaf_objection(const Graph& graph, const Leaf& leaf, bool is_live) {
  const std::string& name = graph.nodes()[leaf.node].attrs.name;
  if (!is_plain_text(name)) return "has a name that is no plain text";
  const RoleName back = split_module_name(module_name({leaf.role, name}));
  if (back.role != leaf.role || back.name != name) {
    return fmt::format("'{}' would be taken for something else", name);
  }
  return is_live ? "" : fmt::format("'{}' is not used", name);
}

std::string outputs_objection(const Graph& graph) {
  if (graph.outputs.empty()) return "it has no outputs";
  for (const Named& output : graph.outputs) {
    if (!is_plain_text(output.name) || output.name.find(',') != std::string::npos) {
      return fmt::format("output '{}' has a name that is no plain text or has a comma",
                         shown(output.name));
    }
  }
  return is_plain_text(graph.name) && !graph.name.empty() ? "" : "its name is no plain text";
}

}  // namespace

std::string objection(const Graph& graph) {
  const auto at_node = [&](uint32_t at, const std::string& text) {
    return fmt::format("%{} {} {}", at, row(graph.nodes()[at].op).name, text);
  };
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const std::string text = node_objection(graph, graph.nodes()[at]);
    if (!text.empty()) return at_node(at, text);
  }
  const std::vector<bool> live = live_nodes(graph);
  for (const Leaf& leaf : parameters(graph)) {
    const std::string text = leaf_objection(graph, leaf, live[leaf.node]);
    if (!text.empty()) return at_node(leaf.node, text);
  }
  return outputs_objection(graph);
}

Graph canonical(const Graph& graph) {
  return rewrite(graph, [](Graph& out, const Node& node) -> std::vector<Value> {
    Node plain = node;
    for (double& value : plain.attrs.values) value = held(node.types[0].dtype, value);
    if (keeps_everything(out, node)) plain.attrs.axis = 0;
    return plain == node ? std::vector<Value>{} : std::vector<Value>{out.add(std::move(plain))};
  });
}

std::vector<Leaf> parameters(const Graph& graph) {
  std::set<std::string_view> outputs;
  for (const Named& output : graph.outputs) outputs.insert(output.name);
  std::vector<Leaf> inputs, states, weights;
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const Node& node = graph.nodes()[at];
    if (node.op == Op::weight) weights.push_back({Role::weight, at});
    if (node.op != Op::input) continue;
    const bool is_state = outputs.contains(node.attrs.name);
    if (is_state) states.push_back({Role::state, at});
    if (!is_state) inputs.push_back({Role::input, at});
  }
  inputs.insert(inputs.end(), states.begin(), states.end());
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  return inputs;
}

std::string module_name(const RoleName& named) {
  if (named.role == Role::state) return named.name + std::string(kStateSuffix);
  return named.role == Role::weight ? std::string(kWeightPrefix) + named.name : named.name;
}

RoleName split_module_name(std::string_view name) {
  if (name.ends_with(kStateSuffix)) {
    name.remove_suffix(kStateSuffix.size());
    return {Role::state, std::string(name)};
  }
  if (name.starts_with(kWeightPrefix)) {
    name.remove_prefix(kWeightPrefix.size());
    return {Role::weight, std::string(name)};
  }
  return {Role::input, std::string(name)};
}

}  // namespace ng
