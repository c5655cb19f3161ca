// Which nodes of a phase run together, on the device or on the CPU, and in which order?
#include <algorithm>
#include <functional>

#include "base/error.h"
#include "ir/build.h"
#include "passes/legalize_parts.h"

namespace ng {
namespace {

constexpr int kEverywhere = -1;  // what depends on weights alone

// The segment of each node, even ones the device's: as many of one side as can run, then of the
// other.
std::vector<int> numbered(const Graph& phase, const std::vector<bool>& cpu) {
  std::vector<bool> waits = run_nodes(phase);
  std::vector<int> numbers(waits.size(), kEverywhere);
  for (int number = 0; std::ranges::count(waits, true) > 0; ++number) {
    for (size_t at = 0; at < waits.size(); ++at) {
      const auto& inputs = phase.nodes()[at].inputs;
      const bool early = std::ranges::any_of(inputs, [&](Value v) { return waits[v.node]; });
      if (!waits[at] || early || cpu[at] != (number % 2 == 1)) continue;
      waits[at] = false;
      numbers[at] = number;
    }
  }
  return numbers;
}

// As segments call it among each other.
std::string name_of(const Graph& phase, Value value) {
  const auto output = std::ranges::find(phase.outputs, value, &Named::value);
  if (output != phase.outputs.end()) return output->name;
  return fmt::format("{}.{}.{}", row(phase[value].op).name, value.node, value.result);
}

using Readers = std::map<Value, std::set<int>>;  // other segments than that which makes the value

Graph cut(const Graph& phase, const std::vector<int>& numbers, int here, const Readers& readers) {
  Graph out(phase.name);
  std::map<Value, Value> moved;
  const std::function<Value(Value)> take = [&](Value value) -> Value {
    if (const auto found = moved.find(value); found != moved.end()) return found->second;
    if (numbers[value.node] != here && numbers[value.node] != kEverywhere) {
      return moved[value] = input(out, name_of(phase, value), phase.type(value));
    }
    Node node = phase[value];
    for (Value& from : node.inputs) from = take(from);
    return moved[value] = {out.add(std::move(node)).node, value.result};
  };
  for (uint32_t at = 0; at < numbers.size(); ++at) {
    if (numbers[at] == here) take({at, 0});
  }
  const auto give = [&](const std::string& name, Value value) {
    if (numbers[value.node] != here || out.find_output(name)) return;
    out.outputs.push_back({name, take(value)});
  };
  for (const Named& output : phase.outputs) give(output.name, output.value);
  for (const auto& [value, others] : readers) give(name_of(phase, value), value);
  return out;
}

}  // namespace

std::vector<bool> run_nodes(const Graph& phase) {
  std::vector<bool> live = live_nodes(phase), depends(live.size());
  for (size_t at = 0; at < live.size(); ++at) {
    const Node& node = phase.nodes()[at];
    depends[at] = node.op == Op::input ||
                  std::ranges::any_of(node.inputs, [&](Value v) { return depends[v.node]; });
    live[at] = live[at] && depends[at] && node.op != Op::input;
  }
  return live;
}

bool uses_state(const Graph& phase, uint32_t node) {
  return std::ranges::any_of(phase.nodes()[node].inputs, [&](Value value) {
    return is_cache(phase[value]) || phase[value].op == Op::write_rows;
  });
}

Graph alone(const Graph& phase, uint32_t node) {
  std::vector<int> numbers(phase.nodes().size(), kEverywhere);
  const std::vector<bool> runs = run_nodes(phase);
  for (uint32_t at = 0; at < runs.size(); ++at) numbers[at] = runs[at] ? at == node : kEverywhere;
  return cut(phase, numbers, 1, {{{node, 0}, {}}});
}

std::vector<Segment> partition(const Graph& phase, const std::vector<std::string>& why) {
  std::vector<bool> cpu;
  for (size_t at = 0; at < why.size(); ++at) {
    const Node& node = phase.nodes()[at];
    cpu.push_back(!why[at].empty() || (node.op == Op::slice && cpu[node.inputs[0].node]));
  }
  const std::vector<int> numbers = numbered(phase, cpu);
  std::map<int, Segment> segments;
  Readers readers;
  for (size_t at = 0; at < numbers.size(); ++at) {
    if (numbers[at] == kEverywhere) continue;
    const Node& node = phase.nodes()[at];
    Segment& segment = segments[numbers[at]];
    segment.cpu = cpu[at];
    ++segment.ops[std::string(row(node.op).name)];
    if (!why[at].empty()) segment.reasons.insert(why[at]);
    for (const Value& value : node.inputs) {
      const int maker = numbers[value.node];
      if (maker != kEverywhere && maker != numbers[at]) readers[value].insert(numbers[at]);
    }
  }
  for (const auto& [value, others] : readers) {
    for (const int other : others) {
      Segment &maker = segments[numbers[value.node]], &reader = segments[other];
      if (maker.cpu == reader.cpu) continue;
      (maker.cpu ? maker : reader).boundary_bytes += byte_count(phase.type(value));
    }
  }
  std::vector<Segment> found;
  for (auto& [number, segment] : segments) {
    segment.graph = cut(phase, numbers, number, readers);
    found.push_back(std::move(segment));
  }
  return found;
}

}  // namespace ng
