// Which legal graphs do tests and third parties see? Random ones, of all ops.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/build.h"
#include "ir/interpret.h"
#include "ir/verify.h"
#include "tensor/tensor.h"

namespace ng {

// Grows a graph op by op from what is there already. Values stay small and functions away from
// where they are steep, so that another compiler's rounding changes results by little; what
// decides (comparisons, indices, scores to be ordered) is never rounded on the way.
class RandomLegal {
 public:
  explicit RandomLegal(uint64_t seed) : random_(seed), graph_("random" + std::to_string(seed)) {}

  Graph graph(int steps) {
    for (int i = 0; i < 3; ++i) add_leaf(i == 1);
    add_integers();
    for (int i = 0; i < steps; ++i) step();
    add_state(DType::f32);
    if (flip()) add_state(DType::bf16);
    if (flip()) add_state(DType::s32);
    add_outputs();
    verify(graph_);
    return graph_;
  }

  // Bindings of a graph that this made.
  Tensor tensor_for(const Type& type) {
    const auto count = static_cast<size_t>(element_count(type.shape));
    std::vector<float> floats(count);
    std::vector<int32_t> integers(count);
    for (size_t i = 0; i < count; ++i) {
      floats[i] = static_cast<float>(pick(-8, 8)) / 4.0F;  // often equal, exact in bf16
      integers[i] = static_cast<int32_t>(pick(-3, 9));
    }
    if (type.dtype == DType::s32) return Tensor::of<int32_t>(type.dtype, type.shape, integers);
    if (type.dtype == DType::f32) return Tensor::of<float>(type.dtype, type.shape, floats);
    std::vector<uint16_t> halves(count);
    std::transform(floats.begin(), floats.end(), halves.begin(), f32_to_bf16);
    return Tensor::of<uint16_t>(type.dtype, type.shape, halves);
  }

 private:
  struct Made {
    Value value;
    double bound;  // of the magnitude
    bool exact;    // the same bits everywhere
    bool rounded;  // from an inexact number rounded to bf16
  };
  using Pool = std::vector<Made>;

  int64_t pick(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool flip() { return pick(0, 1) == 1; }
  Shape random_shape(int64_t least, int64_t most) {
    Shape shape;
    for (int64_t i = pick(least, most); i > 0; --i) shape.emplace_back(pick(1, 5));
    return shape;
  }
  const Shape& shape(const Made& made) const { return graph_.type(made.value).shape; }
  std::string fresh(const char* stem) { return stem + std::to_string(names_++); }
  Made& any(Pool& pool) { return pool[static_cast<size_t>(pick(0, int64_t(pool.size()) - 1))]; }

  Made leaf(const Type& type, bool is_weight) {
    const Value value =
        is_weight ? weight(graph_, fresh("model.w"), type) : input(graph_, fresh("x"), type);
    return {value, type.dtype == DType::s32 ? 9.0 : 2.0, true, false};
  }
  void add_leaf(bool is_weight) {
    floats_.push_back(leaf({DType::f32, random_shape(1, 3)}, is_weight));
  }
  void add_integers() { integers_.push_back(leaf({DType::s32, random_shape(1, 2)}, flip())); }

  Value filled(double number, DType dtype, const Shape& shape) {
    return broadcast(graph_, constant(graph_, {number}, {dtype, {}}), shape, {});
  }
  Value clamped(Value x, double low, double high) {
    const Type type = graph_.type(x);
    const Value above = elementwise(graph_, Op::maximum, {x, filled(low, type.dtype, type.shape)});
    return elementwise(graph_, Op::minimum, {above, filled(high, type.dtype, type.shape)});
  }
  void keep(Made made) {
    if (made.bound > 8) {
      const Type type = graph_.type(made.value);
      const Value scale = filled(1.0 / made.bound, DType::f32, type.shape);
      made = {elementwise(graph_, Op::multiply, {made.value, scale}), 1, false, made.rounded};
    }
    floats_.push_back(made);
  }

  void step() {
    switch (pick(0, 13)) {
      case 0:
      case 1: return add_binary();
      case 2:
      case 3: return add_unary();
      case 4: return add_reshape();
      case 5: return add_transpose();
      case 6: return add_broadcast();
      case 7: return add_concatenate();
      case 8: return add_slice();
      case 9: return add_dot();
      case 10: return add_reduce();
      case 11: return add_gather();
      case 12: return add_top_k();
      default: return add_integer_step();
    }
  }

  void add_binary() {
    static const Op kOps[] = {Op::add,    Op::subtract, Op::multiply,
                              Op::divide, Op::maximum,  Op::minimum};
    const Op op = kOps[pick(0, 5)];
    const Made a = any(floats_);
    Made b = leaf({DType::f32, shape(a)}, flip());
    for (const Made& other : floats_) {
      if (shape(other) == shape(a) && flip()) b = other;
    }
    Value divisor = b.value;
    if (op == Op::divide) divisor = clamped(b.value, 1, 8);
    const bool exact = a.exact && b.exact && (op == Op::maximum || op == Op::minimum);
    const double bound = op == Op::multiply ? a.bound * b.bound : a.bound + b.bound;
    keep({elementwise(graph_, op, {a.value, divisor}), bound, exact, a.rounded || b.rounded});
  }

  void add_unary() {
    const Made a = any(floats_);
    const auto add = [&](Op op, double low, double high, double bound) {
      const Value x = low < high ? clamped(a.value, low, high) : a.value;
      keep({elementwise(graph_, op, {x}), bound, false, a.rounded});
    };
    switch (pick(0, 6)) {
      case 0: return add(Op::exp, -2, 1, 3);
      case 1: return add(Op::log, 0.5, 9, 3);
      case 2: return add(Op::sqrt, 0.25, 9, 3);
      case 3: return add(Op::erf, 0, 0, 1);
      case 4: return add(Op::sin, 0, 0, 1);
      case 5: return add(Op::cos, 0, 0, 1);
      default: {
        const Value narrow = convert(graph_, a.value, DType::bf16);
        halves_.push_back({narrow, a.bound, a.exact, !a.exact});
        floats_.push_back({convert(graph_, narrow, DType::f32), a.bound, a.exact, !a.exact});
      }
    }
  }

  void add_reshape() {
    const Made a = any(floats_);
    const int64_t count = element_count(shape(a));
    const Shape to = flip() ? Shape{1, count, 1} : Shape{count};
    keep({reshape(graph_, a.value, to), a.bound, a.exact, a.rounded});
  }
  void add_transpose() {
    const Made a = any(floats_);
    std::vector<int64_t> dims(shape(a).size());
    for (size_t i = 0; i < dims.size(); ++i) dims[i] = int64_t(i);
    std::shuffle(dims.begin(), dims.end(), random_);
    keep({transpose(graph_, a.value, dims), a.bound, a.exact, a.rounded});
  }
  void add_broadcast() {
    const Made a = any(floats_);
    if (shape(a).size() > 3 || element_count(shape(a)) > 200) return;
    Shape to = shape(a);
    const int64_t at = pick(0, int64_t(to.size()));
    to.insert(to.begin() + at, Dim(pick(1, 4)));
    std::vector<int64_t> dims;
    for (int64_t i = 0; i < int64_t(to.size()); ++i) {
      if (i != at) dims.push_back(i);
    }
    keep({broadcast(graph_, a.value, to, dims), a.bound, a.exact, a.rounded});
  }
  void add_concatenate() {
    const Made a = any(floats_);
    if (shape(a).empty() || element_count(shape(a)) > 200) return;
    const int64_t axis = pick(0, int64_t(shape(a).size()) - 1);
    Shape more = shape(a);
    more[size_t(axis)] = Dim(pick(1, 3));
    std::vector<Value> parts = {a.value};
    if (flip()) parts.push_back(leaf({DType::f32, more}, flip()).value);
    if (flip()) parts.push_back(a.value);
    keep({concatenate(graph_, parts, axis), std::max(a.bound, 2.0), a.exact, a.rounded});
  }
  void add_slice() {
    const Made a = any(floats_);
    if (shape(a).empty()) return;
    const int64_t axis = pick(0, int64_t(shape(a).size()) - 1);
    const int64_t size = shape(a)[size_t(axis)].size, part = pick(1, size);
    const Value cut = slice(graph_, a.value, axis, pick(0, size - part), part);
    keep({cut, a.bound, a.exact, a.rounded});
  }
  void add_dot() {
    const Made a = flip() && !halves_.empty() ? any(halves_) : any(floats_);
    if (shape(a).size() < 2 || element_count(shape(a)) > 200) return;
    Shape other = shape(a);
    other[other.size() - 2] = Dim(pick(1, 6));
    const Made b = leaf({graph_.type(a.value).dtype, other}, flip());
    const double k = double(other.back().size);
    keep({dot(graph_, a.value, b.value), k * a.bound * 2, false, a.rounded});
  }
  void add_reduce() {
    const Made a = any(floats_);
    if (shape(a).empty()) return;
    const bool sum = flip();
    const double n = double(shape(a).back().size);
    keep({reduce(graph_, sum ? Op::reduce_sum : Op::reduce_max, a.value),
          sum ? n * a.bound : a.bound, a.exact && !sum, a.rounded});
  }
  void add_gather() {
    const Made ids = any(integers_);
    const Made a = any(floats_);
    if (shape(a).empty() || shape(a).size() + shape(ids).size() > 5) return;
    if (element_count(shape(a)) * element_count(shape(ids)) > 400) return;
    const Value inside = clamped(ids.value, 0, double(shape(a)[0].size - 1));
    keep({gather_rows(graph_, a.value, inside), a.bound, a.exact, a.rounded});
  }
  void add_top_k() {
    for (const Made& a : Pool(floats_)) {
      if (!a.exact || shape(a).size() != 2 || flip()) continue;
      const Value best = top_k(graph_, a.value, pick(1, shape(a)[1].size));
      if (flip()) floats_.push_back({best, a.bound, true, a.rounded});
      integers_.push_back({{best.node, 1}, 9, true, false});
      return;
    }
  }
  void add_integer_step() {
    static const Op kOps[] = {Op::add,    Op::subtract, Op::multiply,
                              Op::divide, Op::maximum,  Op::minimum};
    const Made a = any(integers_);
    const Type type = graph_.type(a.value);
    const Value b = type.rank() > 0 && flip() ? iota(graph_, type, pick(0, type.rank() - 1))
                                              : leaf(type, flip()).value;
    integers_.push_back({elementwise(graph_, kOps[pick(0, 5)], {a.value, b}), 9, true, false});
    const Made x = any(floats_), y = leaf({DType::f32, type.shape}, flip());
    if (shape(x) == type.shape) {
      const bool exact = x.exact && y.exact;
      keep({select_less(graph_, a.value, b, x.value, y.value), std::max(x.bound, y.bound), exact,
            x.rounded});
    } else {
      floats_.push_back({convert(graph_, clamped(b, -9, 9), DType::f32), 9, true, false});
      integers_.push_back({convert(graph_, y.value, DType::s32), 2, true, false});
    }
  }

  // Distinct rows, for XLA may write them in any order.
  void add_state(DType dtype) {
    const int64_t rows = pick(1, 3), width = pick(1, 5), size = rows + pick(0, 3);
    const std::string name = fresh("decoder.cache");
    const Value state = input(graph_, name, {dtype, {size, width}});
    const Value number = iota(graph_, {DType::s32, {rows}}, 0);
    const Value shifted =
        elementwise(graph_, Op::add, {number, filled(double(size - rows), DType::s32, {rows})});
    const Value index = clamped(flip() ? number : shifted, 0, double(size - 1));
    Value fill = leaf({dtype, {rows, width}}, flip()).value;
    if (dtype == DType::f32) fill = elementwise(graph_, Op::add, {fill, fill});
    const Value written = write_rows(graph_, state, fill, index);
    states_.push_back({name, written});
    if (dtype == DType::f32) floats_.push_back({written, 4, true, false});
  }

  // What no one reads yet becomes outputs; states among them.
  void add_outputs() {
    std::vector<bool> read(graph_.nodes().size());
    for (const Node& node : graph_.nodes()) {
      for (const Value& value : node.inputs) read[value.node] = true;
    }
    std::vector<Named> outputs = states_;
    for (Pool* pool : {&floats_, &halves_, &integers_}) {
      for (const Made& made : *pool) {
        const bool is_float = graph_.type(made.value).dtype == DType::f32;
        if (read[made.value.node] && flip()) continue;
        Value value = made.value;
        if (is_float && made.rounded) value = convert(graph_, value, DType::bf16);
        outputs.push_back({fresh("out"), value});
      }
    }
    std::shuffle(outputs.begin(), outputs.end(), random_);
    graph_.outputs = outputs;
    std::vector<bool> live = live_nodes(graph_);  // leaves that were taken and not used
    for (uint32_t at = 0; at < live.size(); ++at) {
      const Op op = graph_.nodes()[at].op;
      if (!live[at] && (op == Op::input || op == Op::weight)) {
        graph_.outputs.push_back({fresh("out"), {at, 0}});
      }
    }
  }

  std::mt19937_64 random_;
  Graph graph_;
  int names_ = 0;
  Pool floats_, halves_, integers_;
  std::vector<Named> states_;
};

// Tensors for every input and weight of such a graph.
inline std::map<std::string, Tensor> random_tensors(const Graph& graph, uint64_t seed) {
  RandomLegal random(seed);
  std::map<std::string, Tensor> tensors;
  for (const Node& node : graph.nodes()) {
    if (node.op != Op::input && node.op != Op::weight) continue;
    tensors[node.attrs.name] = random.tensor_for(node.types[0]);
  }
  return tensors;
}

inline std::map<std::string, Tensor> results_of(const Graph& graph,
                                                const std::map<std::string, Tensor>& tensors) {
  Bindings bindings;
  bindings.inputs = tensors;
  bindings.weight = [&](const std::string& name) { return tensors.at(name); };
  return interpret(graph, std::move(bindings));
}

}  // namespace ng
