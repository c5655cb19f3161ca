#include "translate/ports.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace ng {
namespace {

constexpr int64_t kAny = -1;  // a size that the model decides, or a counted one's capacity

struct Wanted {
  std::string_view name;
  Type type;
};

Dim counted(Count count) { return {kAny, count}; }

std::vector<Wanted> wanted_inputs(std::string_view phase) {
  const auto s32 = [](Shape shape) { return Type{DType::s32, std::move(shape)}; };
  const Dim count = counted(phase == "encode" ? Count::tokens : Count::rows);
  std::vector<Wanted> wanted = {
      {"tokens", s32({count})}, {"positions", s32({count})}, {"length", s32({count})}};
  if (phase == "encode") {
    wanted.push_back({"start", s32({count, 1})});
    wanted.push_back({"memory_index", s32({count})});
    return wanted;
  }
  wanted.push_back({"history", s32({count, counted(Count::context)})});
  wanted.push_back({"cache_index", s32({count})});
  wanted.push_back({"memory_start", s32({count, 1})});
  wanted.push_back({"memory_length", s32({count})});
  return wanted;
}

std::vector<Wanted> wanted_outputs(std::string_view phase, int64_t vocabulary) {
  if (phase == "encode") return {{"hidden", {DType::f32, {counted(Count::tokens), kAny}}}};
  if (phase == "prefill") return {};
  const Dim rows = counted(Count::rows);
  const Wanted sum = {"log_sum_exp", {DType::f32, {rows}}};
  if (phase == "logits") return {{"logits", {DType::f32, {rows, vocabulary}}}, sum};
  const Dim k = counted(Count::candidates);
  return {{"scores", {DType::f32, {rows, k}}}, {"ids", {DType::s32, {rows, k}}}, sum};
}

bool fits(const Type& wanted, const Type& found) {
  const auto same = [](const Dim& want, const Dim& have) {
    return want.count == have.count && (want.size == kAny || want.size == have.size);
  };
  return wanted.dtype == found.dtype && std::ranges::equal(wanted.shape, found.shape, same);
}

const Port* find(std::span<const Port> ports, std::string_view name) {
  const auto found = std::ranges::find(ports, name, &Port::name);
  return found == ports.end() ? nullptr : &*found;
}

void check_side(const std::string& where, std::span<const Port> ports,
                const std::vector<Wanted>& wanted) {
  for (const auto& [name, type] : wanted) {
    const Port* port = find(ports, name);
    check(port != nullptr, "{} has no '{}': compile the checkpoint again", where, name);
    check(fits(type, port->type), "{} has '{}' as {}, which does not fit the model: compile again",
          where, name, to_string(port->type));
  }
}

}  // namespace

void check_ports(std::string_view phase, const Ports& ports, int64_t vocabulary,
                 const std::function<bool(const std::string& name)>& is_state) {
  const std::vector<Wanted> inputs = wanted_inputs(phase);
  check_side(fmt::format("phase {}: the graph's input side", phase), ports.inputs, inputs);
  check_side(fmt::format("phase {}: the graph's output side", phase), ports.outputs,
             wanted_outputs(phase, vocabulary));
  for (const Port& port : ports.inputs) {
    const bool bound = find(ports.outputs, port.name) != nullptr || is_state(port.name) ||
                       std::ranges::find(inputs, port.name, &Wanted::name) != inputs.end();
    check(bound, "phase {}: nothing gives the graph's input '{}': compile the checkpoint again",
          phase, shown(port.name));
  }
}

}  // namespace ng
