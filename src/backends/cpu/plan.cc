#include "backends/cpu/plan.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace ng {
namespace {

bool has_kernel(Op op) {
  switch (op) {
    case Op::embed:
    case Op::layer_norm:
    case Op::linear:
    case Op::activate:
    case Op::attend:
    case Op::add:
    case Op::write_rows:
    case Op::log_sum_exp:
    case Op::project_top_k: return true;
    default: return false;
  }
}

class Planner {
 public:
  Planner(const Graph& graph, const WeightSource& weights) : weights_(weights) {
    plan_.graph = graph;
  }
  Plan run();

 private:
  void visit(uint32_t at);
  void add_step(const Node& node, uint32_t at);
  Place read(Value value);
  Place new_temporary(Value value);
  void finish_outputs();

  const WeightSource& weights_;
  Plan plan_;
  std::map<Value, Place> places_;
  uint32_t inputs_ = 0;
};

int64_t row_stride(const Type& type) {
  int64_t stride = 1;
  for (int axis = 1; axis < type.rank(); ++axis) stride *= type.size(axis);
  return stride;
}

Place Planner::new_temporary(Value value) {
  Temporary temporary;
  temporary.type = plan_.graph.type(value);
  temporary.first_step = temporary.last_step = plan_.steps.size();
  const auto index = static_cast<uint32_t>(plan_.temporaries.size());
  plan_.temporaries.push_back(std::move(temporary));
  // A counted last axis (k) is the stride at run time.
  return places_[value] = {Place::Kind::temporary, index, 0, row_stride(plan_.graph.type(value))};
}

// The place of an operand of the step that is being added.
Place Planner::read(Value value) {
  const Place place = places_.at(value);
  if (place.kind == Place::Kind::temporary) {
    plan_.temporaries[place.index].last_step = plan_.steps.size();
  }
  return place;
}

void Planner::add_step(const Node& node, uint32_t at) {
  Step step;
  step.node = &node;
  for (const Value& value : node.inputs) step.inputs.push_back(read(value));
  if (node.op == Op::write_rows) {
    places_[{at, 0}] = step.inputs[0];  // in place: rule V3 makes it legal
    step.results = {step.inputs[0]};
  } else {
    for (uint8_t i = 0; i < node.types.size(); ++i) step.results.push_back(new_temporary({at, i}));
  }
  plan_.steps.push_back(std::move(step));
}

void check_matrix(const Node& node, const Graph& graph, size_t operand) {
  const Type& type = graph.type(node.inputs[operand]);
  check(type.rank() == 3, "the CPU reads packed matrices only; {} is given {}", row(node.op).name,
        to_string(type));
}

void Planner::visit(uint32_t at) {
  const Node& node = plan_.graph.nodes()[at];
  const Type& type = node.types[0];
  if (node.op == Op::input) {
    places_[{at, 0}] = {Place::Kind::input, inputs_++, 0, row_stride(type)};
    return;
  }
  if (node.op == Op::weight) {
    const auto index = static_cast<uint32_t>(plan_.weights.size());
    plan_.weights.push_back(weights_(node.attrs.name));
    check(plan_.weights.back().type == type, "weight '{}' is {}, the graph says {}",
          node.attrs.name, to_string(plan_.weights.back().type), to_string(type));
    places_[{at, 0}] = {Place::Kind::weight, index, 0, row_stride(type)};
    return;
  }
  if (node.op == Op::slice && type.rank() == 2 && node.attrs.axis == 1) {
    Place place = places_.at(node.inputs[0]);
    place.offset += node.attrs.begin;
    places_[{at, 0}] = place;
    return;
  }
  check(has_kernel(node.op), "the CPU has no kernel for {}", row(node.op).name);
  if (node.op == Op::embed) {
    check_matrix(node, plan_.graph, 2);
    check(plan_.graph.type(node.inputs[3]).rank() == 1, "the cpu computes sinusoids by itself");
  }
  if (node.op == Op::linear || node.op == Op::project_top_k) check_matrix(node, plan_.graph, 1);
  add_step(node, at);
}

void Planner::finish_outputs() {
  for (size_t i = 0; i < plan_.graph.outputs.size(); ++i) {
    const Named& output = plan_.graph.outputs[i];
    const Place place = places_.at(output.value);
    const bool whole = place.kind == Place::Kind::temporary && place.offset == 0 &&
                       place.stride == row_stride(plan_.graph.type(output.value));
    if (whole && plan_.temporaries[place.index].output < 0) {
      plan_.temporaries[place.index].output = static_cast<int>(i);
      continue;
    }
    if (place.kind == Place::Kind::temporary) {
      plan_.temporaries[place.index].last_step = plan_.steps.size();
    }
    plan_.copies.push_back({i, place, plan_.graph.find_input(output.name).has_value()});
  }
}

Plan Planner::run() {
  const std::vector<bool> live = live_nodes(plan_.graph);
  for (uint32_t at = 0; at < live.size(); ++at) {
    if (live[at] || plan_.graph.nodes()[at].op == Op::input) visit(at);
  }
  finish_outputs();
  return std::move(plan_);
}

}  // namespace

Plan make_plan(const Graph& graph, const WeightSource& weights) {
  Plan plan = Planner(graph, weights).run();
  return plan;
}

std::vector<size_t> place_temporaries(const Plan& plan, const Counts& counts) {
  constexpr size_t kAlignment = 64;
  struct Held {
    size_t begin, end, last_step;
  };
  std::vector<Held> held;  // by begin
  std::vector<size_t> offsets;
  size_t arena = 0;
  for (const Temporary& temporary : plan.temporaries) {
    const auto bytes = static_cast<size_t>(byte_count(counts.resolve(temporary.type)));
    const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    std::erase_if(held, [&](const Held& h) { return h.last_step < temporary.first_step; });
    size_t begin = 0;
    auto before = held.begin();
    for (; before != held.end() && before->begin < begin + size; ++before) {
      begin = std::max(begin, before->end);
    }
    held.insert(before, {begin, begin + size, temporary.last_step});
    offsets.push_back(begin);
    arena = std::max(arena, begin + size);
  }
  offsets.push_back(arena);
  return offsets;
}

}  // namespace ng
