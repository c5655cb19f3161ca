// How a plan is run: operands become pointers, loops are cut into pieces for the threads.
#pragma once

#include "backends/cpu/plan.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace ng {

// Rows of floats (or s32) in memory.
struct Rows {
  std::byte* data;
  int64_t stride;  // elements

  float* f32() const { return reinterpret_cast<float*>(data); }
  const int32_t* s32() const { return reinterpret_cast<const int32_t*>(data); }
};

// What every step's function gets.
struct StepRun {
  const Plan& plan;
  const Step& step;
  const Kernels& kernels;
  ThreadPool& threads;
  const Counts& counts;
  std::vector<Rows> inputs, results;

  const Node& node() const { return *step.node; }
  Type type(size_t input) const { return counts.resolve(plan.graph.type(node().inputs[input])); }
  Type result_type(size_t i = 0) const { return counts.resolve(node().types[i]); }
};

// Runs one step. Every shape was checked when the plan was made and the counts were bound.
void run_step(const StepRun& run);

}  // namespace ng
