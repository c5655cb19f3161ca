// What does one run of a module multiply, keep and read from the device's memory?
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "ir/graph.h"

namespace ng {

// How the beams of a step find what they said before. Each row reads the keys and values of its own
// past, wherever they were written: `history`, a gather of single cache rows before each attention.
// Or the caches are put in the beams' order before the step, run by run: `reorder`.
//   history   3 · g        g = bytes gathered a step: read, laid side by side, read by the product
//   reorder   2 · c + g    c = bytes of all caches: read and written once more, every slot, since
//                          the step writes other buffers than it reads; then the products read g
// The copies of a gather are as many as the rows it takes: a row is `width` numbers for history,
// and the whole past of a beam, one copy a row of the step, for reorder. A reorder needs the caches
// twice, and none is needed with one beam.
// Both are read off the graph of a module with histories.
struct HistoryPrice {
  int64_t history_bytes = 0, reorder_bytes = 0;
  int64_t history_copies = 0, reorder_copies = 0;
};

// Of a legal graph (backends/xla/legal.h). Bytes are those of the types that the graph says.
struct ModuleCost {
  int64_t flops = 0;         // of matrix products: 2 for each multiplication and its addition
  int64_t weight_bytes = 0;  // of all weights it is bound to
  int64_t state_bytes = 0;   // of the caches and memory that it reads or writes: inputs of floats,
                             // and once more those that it replaces
  int64_t io_bytes = 0;      // of other inputs, and of outputs that are no states
  // The most that is alive at once of what nodes give to each other, in graph order; constants,
  // broadcasts and reshaped values take nothing. The compiler fuses: it will need less.
  int64_t temporary_bytes = 0;
  // From the device's memory: a weight or state that is read whole, once, however many nodes do;
  // of one that rows are gathered from, these rows. What stands between two nodes stays on chip.
  int64_t read_bytes = 0;
  HistoryPrice past;  // zeros where no cache that the module writes is gathered from
};

// An input of floats: memory or a cache, which stays on the device.
bool is_state(const Node& node);

ModuleCost cost_of(const Graph& graph);

// What modules need together on a core: weights and caches once, since modules share them; of
// temporaries and of inputs and outputs the most that one module needs, since one runs at a time.
struct DeviceMemory {
  int64_t weight_bytes = 0, state_bytes = 0, temporary_bytes = 0, io_bytes = 0;
  std::set<std::pair<bool, std::string>> counted;  // states and weights, by name

  void add(const Graph& module, const ModuleCost& cost);
  // With what the runtime takes (SDK 2.32: 96 MB of microcode a core); the modules' instructions,
  // whose size only the compiler knows, left out.
  int64_t core_bytes() const;
};
inline constexpr int64_t kRuntimeBytes = int64_t{96} * 1000 * 1000;

}  // namespace ng
