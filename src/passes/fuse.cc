// Which nodes become one: activations and residual sums join their linear, linears of one input
// join each other.
#include <map>
#include <set>

#include "base/error.h"
#include "ir/build.h"
#include "passes/passes.h"

namespace ng {
namespace {

constexpr size_t kMostMerged = 4;

// How often each value is read, outputs included.
std::map<Value, int> count_uses(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  std::map<Value, int> uses;
  for (size_t at = 0; at < live.size(); ++at) {
    if (!live[at]) continue;
    for (const Value& value : graph.nodes()[at].inputs) ++uses[value];
  }
  for (const Named& output : graph.outputs) ++uses[output.value];
  return uses;
}

bool plain_linear(const Node& node) {
  return node.op == Op::linear && node.attrs.activation == ActivationKind::none &&
         node.inputs.size() == 3;
}

// add(linear, x) or add(x, linear), the linear read by nobody else: its index, or -1.
int fusable_operand(const Graph& graph, const Node& node, const std::map<Value, int>& uses) {
  for (int i = 1; i >= 0; --i) {
    const Value value = node.inputs[static_cast<size_t>(i)];
    if (plain_linear(graph[value]) && uses.at(value) == 1) return i;
  }
  return -1;
}

std::vector<Value> join(Graph& out, const Node& linear_node, std::optional<Value> residual,
                        ActivationKind activation) {
  const LinearInputs inputs = {linear_node.inputs[0], linear_node.inputs[1], linear_node.inputs[2],
                               residual};
  return {linear(out, inputs, linear_node.types[0].size(1), activation)};
}

// Uses are counted on `graph`, whose nodes `rewrite` visits in order with their inputs translated;
// `original` follows along.
Graph join_epilogues(const Graph& graph) {
  const std::map<Value, int> uses = count_uses(graph);
  const std::vector<bool> live = live_nodes(graph);
  uint32_t at = 0;
  return rewrite(graph, [&](Graph& out, const Node& node) -> std::vector<Value> {
    while (!live[at] && graph.nodes()[at].op != Op::input) ++at;
    const Node& original = graph.nodes()[at++];
    if (node.op == Op::activate) {
      const Value x = original.inputs[0];
      if (!plain_linear(graph[x]) || uses.at(x) != 1) return {};
      return join(out, Node(out[node.inputs[0]]), std::nullopt, node.attrs.activation);
    }
    if (node.op != Op::add) return {};
    const int i = fusable_operand(graph, original, uses);
    if (i < 0) return {};
    const Node joined = out[node.inputs[static_cast<size_t>(i)]];
    return join(out, joined, node.inputs[static_cast<size_t>(1 - i)], ActivationKind::none);
  });
}

// Linears of one x that are read only through themselves, in node order, at most kMostMerged a
// group.
std::map<uint32_t, std::vector<uint32_t>> merge_groups(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  std::map<Value, std::vector<uint32_t>> open;
  std::map<uint32_t, std::vector<uint32_t>> groups;  // by first member
  const auto close = [&](const std::vector<uint32_t>& members) {
    if (members.size() > 1) groups[members.front()] = members;
  };
  for (uint32_t at = 0; at < graph.nodes().size(); ++at) {
    const Node& node = graph.nodes()[at];
    const bool leaves = plain_linear(node) && graph[node.inputs[1]].op == Op::weight &&
                        graph[node.inputs[2]].op == Op::weight;
    if (!live[at] || !leaves) continue;
    std::vector<uint32_t>& members = open[node.inputs[0]];
    members.push_back(at);
    if (members.size() == kMostMerged) {
      close(members);
      members.clear();
    }
  }
  for (const auto& [x, members] : open) close(members);
  return groups;
}

// Builds the merged linear at its first member and slices it for all.
std::vector<Value> merged(Graph& out, const Graph& graph, const std::vector<uint32_t>& members,
                          Value x) {
  std::vector<Value> matrices, biases;
  int64_t total = 0;
  for (uint32_t member : members) {
    const Node& node = graph.nodes()[member];
    matrices.push_back(out.add(graph[node.inputs[1]]));
    biases.push_back(out.add(graph[node.inputs[2]]));
    total += node.types[0].size(1);
  }
  const Value all =
      linear(out, {x, concatenate(out, matrices, 0), concatenate(out, biases, 0), {}}, total);
  std::vector<Value> parts;
  int64_t begin = 0;
  for (uint32_t member : members) {
    const int64_t size = graph.nodes()[member].types[0].size(1);
    parts.push_back(slice(out, all, 1, begin, size));
    begin += size;
  }
  return parts;
}

Graph merge_linears(const Graph& graph) {
  const auto groups = merge_groups(graph);
  const std::vector<bool> live = live_nodes(graph);
  std::map<uint32_t, Value> part_of;  // member → its slice
  uint32_t at = 0;
  return rewrite(graph, [&](Graph& out, const Node& node) -> std::vector<Value> {
    while (!live[at] && graph.nodes()[at].op != Op::input) ++at;
    const uint32_t original = at++;
    if (const auto group = groups.find(original); group != groups.end()) {
      const std::vector<Value> parts = merged(out, graph, group->second, node.inputs[0]);
      for (size_t i = 0; i < parts.size(); ++i) part_of[group->second[i]] = parts[i];
    }
    const auto part = part_of.find(original);
    return part == part_of.end() ? std::vector<Value>{} : std::vector<Value>{part->second};
  });
}

}  // namespace

Graph fuse(const Graph& graph) { return merge_linears(join_epilogues(graph)); }

}  // namespace ng
