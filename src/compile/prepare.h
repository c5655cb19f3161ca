// How do a checkpoint's tensors become a bundle's, with little memory?
#pragma once

#include <functional>
#include <string>

#include "base/thread_pool.h"
#include "bundle/bundle.h"
#include "checkpoint/checkpoint.h"
#include "ir/graph.h"

namespace ng {

// Rows [first, first + count) of the weight that the graph calls `name`, as float32. Called from
// several threads.
using WeightRows = std::function<Tensor(const std::string& name, int64_t first, int64_t count)>;

// Those of `checkpoint`, where `names` maps the graph's names to the checkpoint's; both are kept.
// f16 and bf16 are widened, f64 is rounded to nearest. NaN or infinity: User, naming the tensor and
// the first index.
WeightRows checkpoint_rows(const Checkpoint& checkpoint,
                           const std::map<std::string, std::string>& names);

uint64_t prepared_bytes(const Graph& prepare);

// Evaluates the outputs of the graph `prepare` (passes/passes.h) in their order and writes them,
// block of rows by block of rows, with the interpreter's meaning of each op. An op must be
// row-local (convert, concatenate on axis 0, pack) or have a result of at most 256 MB:
// Internal.
struct Work {
  ThreadPool& threads;
  Progress& progress;
};
void write_prepared(const Graph& prepare, const WeightRows& weights, BundleWriter& out,
                    const Work& work);

}  // namespace ng
