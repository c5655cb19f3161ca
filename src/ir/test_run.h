// How do tests make random tensors, and run a small graph on them?
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/refusal_for_test.h"
#include "ir/build.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace ng::testing {

using Random = std::mt19937;
inline int64_t pick(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

template <class T>
std::vector<T> items(const Tensor& tensor) {
  std::vector<T> out(tensor.data.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}
inline Tensor f32(Shape shape, const std::vector<float>& values) {
  return Tensor::of<float>(DType::f32, std::move(shape), values);
}
inline Tensor s32(Shape shape, const std::vector<int32_t>& values) {
  return Tensor::of<int32_t>(DType::s32, std::move(shape), values);
}
inline Tensor random_f32(Random& random, Shape shape, float spread = 1.0F) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (float& value : values) value = normal(random);
  return f32(std::move(shape), values);
}
inline Tensor random_s32(Random& random, Shape shape, int64_t low, int64_t high) {
  std::vector<int32_t> values(static_cast<size_t>(element_count(shape)));
  for (int32_t& value : values) value = static_cast<int32_t>(pick(random, low, high));
  return s32(std::move(shape), values);
}
// The same bytes, one past an aligned address.
inline Tensor unaligned(const Tensor& tensor) {
  auto bytes = std::make_shared<std::vector<std::byte>>(tensor.data.size() + 1);
  std::copy(tensor.data.begin(), tensor.data.end(), bytes->begin() + 1);
  return Tensor{tensor.type, bytes, std::span<const std::byte>(*bytes).subspan(1)};
}
inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.type == b.type && std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

using Build = std::function<std::vector<Value>(Graph&, const std::vector<Value>&)>;

// The graph of inputs "0", "1", … of these types and outputs "0", "1", …; verified, and through its
// text and back.
inline Graph graph_of(const std::vector<Type>& types, const Build& build) {
  Graph graph("test");
  std::vector<Value> inputs;
  for (size_t i = 0; i < types.size(); ++i) {
    inputs.push_back(input(graph, std::to_string(i), types[i]));
  }
  for (const Value& value : build(graph, inputs)) {
    graph.outputs.push_back({"out" + std::to_string(graph.outputs.size()), value});
  }
  verify(graph);
  const std::string text = print(graph);
  EXPECT_EQ(print(parse_graph(text, "text")), text);
  return graph;
}

inline std::vector<Tensor> run_graph(const Graph& graph, const std::vector<Tensor>& inputs,
                                     const Counts& counts = {}, ThreadPool* threads = nullptr) {
  Bindings bindings;
  bindings.counts = counts;
  for (size_t i = 0; i < inputs.size(); ++i) bindings.inputs[std::to_string(i)] = inputs[i];
  std::map<std::string, Tensor> outputs = interpret(graph, std::move(bindings), threads);
  std::vector<Tensor> results;
  for (const Named& output : graph.outputs) results.push_back(outputs.at(output.name));
  return results;
}

// The results of a graph of exact types.
inline std::vector<Tensor> run(const std::vector<Tensor>& inputs, const Build& build,
                               ThreadPool* threads = nullptr) {
  std::vector<Type> types;
  for (const Tensor& tensor : inputs) types.push_back(tensor.type);
  return run_graph(graph_of(types, build), inputs, {}, threads);
}

inline void expect_close(const Tensor& tensor, const std::vector<double>& expected,
                         double tolerance) {
  const std::vector<float> found = items<float>(tensor);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance * (1.0 + std::abs(expected[i])))
        << "element " << i;
  }
}

}  // namespace ng::testing
