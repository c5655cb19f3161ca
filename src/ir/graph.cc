#include "ir/graph.h"

#include <bit>
#include <functional>

#include "base/error.h"

namespace ng {
namespace {

constexpr OpRow kOps[] = {
#define OP(name, fewest, most, kind, rule) {Op::name, #name, fewest, most, OpKind::kind},
#include "ir/ops.def"
#undef OP
};

void mix(uint64_t& hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
  hash ^= hash >> 29;
}

// Equal nodes have equal hashes (0.0 + turns -0 into 0); what is left out only costs a comparison,
// which is why whatever a hostile text could vary 100,000 times is in.
uint64_t hash_of(const Node& node) {
  const Attrs& attrs = node.attrs;
  uint64_t hash = static_cast<uint64_t>(node.op);
  for (const Value& value : node.inputs) mix(hash, (uint64_t{value.node} << 8) | value.result);
  mix(hash, std::hash<std::string>()(attrs.name));
  for (int64_t dim : attrs.dims) mix(hash, static_cast<uint64_t>(dim));
  for (double number : attrs.values) mix(hash, std::bit_cast<uint64_t>(0.0 + number));
  for (int64_t number : {attrs.axis, attrs.begin, attrs.heads, attrs.padding}) {
    mix(hash, static_cast<uint64_t>(number));
  }
  for (float number : {attrs.scale, attrs.eps}) mix(hash, std::bit_cast<uint32_t>(0.0F + number));
  for (const Type& type : node.types) {
    for (const Dim& dim : type.shape) mix(hash, static_cast<uint64_t>(dim.size));
  }
  return hash;
}

}  // namespace

std::span<const OpRow> op_table() { return kOps; }

std::string_view name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::none: return "none";
    case ActivationKind::relu: return "relu";
    case ActivationKind::gelu: return "gelu";
    case ActivationKind::silu: return "silu";
  }
  return "none";
}

Value Graph::add(Node node) {
  for (const Value& value : node.inputs) {
    NG_CHECK(value.node < nodes_.size() && value.result < nodes_[value.node].types.size(),
             "input %{}.{} of {}", value.node, value.result, row(node.op).name);
  }
  const uint64_t hash = hash_of(node);
  const auto [first, last] = index_.equal_range(hash);
  for (auto at = first; at != last; ++at) {
    if (nodes_[at->second] == node) return {at->second, 0};
  }
  const auto id = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(std::move(node));
  index_.emplace(hash, id);
  return {id, 0};
}

std::vector<Named> Graph::inputs() const {
  std::vector<Named> found;
  for (uint32_t at = 0; at < nodes_.size(); ++at) {
    if (nodes_[at].op == Op::input) found.push_back({nodes_[at].attrs.name, {at, 0}});
  }
  return found;
}

std::optional<Value> Graph::find_input(std::string_view input_name) const {
  for (uint32_t at = 0; at < nodes_.size(); ++at) {
    if (nodes_[at].op == Op::input && nodes_[at].attrs.name == input_name) return Value{at, 0};
  }
  return std::nullopt;
}

std::optional<Value> Graph::find_output(std::string_view output_name) const {
  for (const Named& output : outputs) {
    if (output.name == output_name) return output.value;
  }
  return std::nullopt;
}

std::vector<bool> live_nodes(const Graph& graph) {
  std::vector<bool> live(graph.nodes().size());
  for (const Named& output : graph.outputs) live[output.value.node] = true;
  for (size_t at = live.size(); at-- > 0;) {
    if (!live[at]) continue;
    for (const Value& value : graph.nodes()[at].inputs) live[value.node] = true;
  }
  return live;
}

}  // namespace ng
