#include "compile/module_cost.h"

#include <algorithm>
#include <optional>

#include "ir/replaced.h"

namespace ng {
namespace {

int64_t bytes_of(const Node& node) {
  int64_t bytes = 0;
  for (const Type& type : node.types) bytes += byte_count(type);
  return bytes;
}

bool is_leaf(const Node& node) { return row(node.op).kind == OpKind::leaf; }

// Another look at memory that is there: nothing is read, nothing is kept.
bool is_view(const Node& node) { return node.op == Op::reshape || node.op == Op::broadcast; }

class Costs {
 public:
  explicit Costs(const Graph& graph) : graph_(graph), leaves_(graph.nodes().size()) {}
  ModuleCost run();

 private:
  // The weight or state that a value looks at, whatever was written into it, in whatever order.
  std::optional<uint32_t> leaf_of(uint32_t at, const Node& node) const;
  void read(const Node& node);
  void gather(const Node& node, uint32_t leaf);
  void add_interface();
  void add_temporaries();

  const Graph& graph_;
  std::vector<std::optional<uint32_t>> leaves_;
  std::vector<bool> whole_ = std::vector<bool>(graph_.nodes().size());
  ModuleCost cost_;
};

std::optional<uint32_t> Costs::leaf_of(uint32_t at, const Node& node) const {
  if (node.op == Op::weight || is_state(node)) return at;
  const bool reordered = node.op == Op::gather_rows && node.types[0] == graph_.type(node.inputs[0]);
  const bool looks = is_view(node) || node.op == Op::transpose || node.op == Op::write_rows;
  if (!looks && !reordered) return {};
  const std::optional<uint32_t> leaf = leaves_[node.inputs[0].node];
  // A matrix lies as its product reads it; anything else that is turned is copied.
  const bool turned = node.op == Op::transpose && leaf && is_state(graph_.nodes()[*leaf]);
  return turned ? std::nullopt : leaf;
}

void Costs::gather(const Node& node, uint32_t leaf) {
  cost_.read_bytes += bytes_of(node);
  const Node& of = graph_.nodes()[leaf];
  if (!is_state(of) || !graph_.find_output(of.attrs.name)) return;
  const Type& index = graph_.type(node.inputs[1]);
  cost_.past.history_bytes += 3 * bytes_of(node);
  cost_.past.reorder_bytes += 2 * bytes_of(of) + bytes_of(node);
  cost_.past.history_copies += element_count(index.shape);
  cost_.past.reorder_copies += index.size(0);
}

void Costs::read(const Node& node) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const std::optional<uint32_t> leaf = leaves_[node.inputs[i].node];
    if (!leaf) continue;
    if (node.op == Op::gather_rows && i == 0) {
      gather(node, *leaf);
    } else if (node.op != Op::write_rows || i != 0) {
      whole_[*leaf] = true;
    }
  }
}

void Costs::add_interface() {
  for (const Node& node : graph_.nodes()) {
    if (node.op == Op::weight) cost_.weight_bytes += bytes_of(node);
    if (node.op == Op::input)
      (is_state(node) ? cost_.state_bytes : cost_.io_bytes) += bytes_of(node);
  }
  for (const Named& output : graph_.outputs) {
    const int64_t bytes = byte_count(graph_.type(output.value));
    if (graph_.find_input(output.name)) continue;
    (is_next(output.name) ? cost_.state_bytes : cost_.io_bytes) += bytes;
  }
}

void Costs::add_temporaries() {
  const size_t count = graph_.nodes().size();
  std::vector<uint32_t> owner(count);  // whose memory a node's result lies in
  std::vector<size_t> last(count);     // the last node that reads it
  for (uint32_t at = 0; at < count; ++at) {
    const Node& node = graph_.nodes()[at];
    const bool borrows = is_view(node) || node.op == Op::write_rows;
    owner[at] = borrows ? owner[node.inputs[0].node] : at;
    for (const Value& value : node.inputs) last[owner[value.node]] = at;
  }
  for (const Named& output : graph_.outputs) last[owner[output.value.node]] = count;
  const auto keeps = [&](uint32_t at) {
    const bool output = last[at] == count;  // counted with the interface
    return owner[at] == at && !is_leaf(graph_.nodes()[at]) && !leaves_[at] && !output;
  };
  std::vector<int64_t> freed(count + 1);  // outputs, at the end, take nothing
  int64_t alive = 0;
  for (uint32_t at = 0; at < count; ++at) {
    const int64_t bytes = keeps(at) ? bytes_of(graph_.nodes()[at]) : 0;
    alive += bytes;
    cost_.temporary_bytes = std::max(cost_.temporary_bytes, alive);
    freed[std::max<size_t>(last[at], at)] += bytes;
    alive -= freed[at];
  }
}

ModuleCost Costs::run() {
  for (uint32_t at = 0; at < graph_.nodes().size(); ++at) {
    const Node& node = graph_.nodes()[at];
    leaves_[at] = leaf_of(at, node);
    if (is_leaf(node)) continue;
    if (!leaves_[at] || node.op == Op::write_rows || node.op == Op::gather_rows) read(node);
    if (node.op == Op::dot) {
      cost_.flops += 2 * element_count(node.types[0].shape) * graph_.type(node.inputs[0]).size(-1);
    }
  }
  for (uint32_t at = 0; at < whole_.size(); ++at) {
    if (whole_[at]) cost_.read_bytes += bytes_of(graph_.nodes()[at]);
  }
  add_interface();
  add_temporaries();
  return cost_;
}

}  // namespace

bool is_state(const Node& node) {
  return node.op == Op::input && node.types[0].dtype != DType::s32;
}

ModuleCost cost_of(const Graph& graph) { return Costs(graph).run(); }

void DeviceMemory::add(const Graph& module, const ModuleCost& cost) {
  for (const Node& node : module.nodes()) {
    const bool state = is_state(node);
    if (!state && node.op != Op::weight) continue;
    if (!counted.emplace(state, node.attrs.name).second) continue;
    (state ? state_bytes : weight_bytes) += bytes_of(node);
  }
  for (const Named& output : module.outputs) {  // a replaced state is there twice
    if (!is_next(output.name) || !counted.emplace(true, output.name).second) continue;
    state_bytes += byte_count(module.type(output.value));
  }
  temporary_bytes = std::max(temporary_bytes, cost.temporary_bytes);
  io_bytes = std::max(io_bytes, cost.io_bytes);
}

int64_t DeviceMemory::core_bytes() const {
  return weight_bytes + state_bytes + temporary_bytes + io_bytes + kRuntimeBytes;
}

}  // namespace ng
