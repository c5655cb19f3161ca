// A graph as a list of kernel calls: where every value lives, and for how long.
#pragma once

#include <vector>

#include "backends/backend.h"
#include "ir/graph.h"

namespace ng {

// Where a value's rows stand.
struct Place {
  enum class Kind : uint8_t { input, weight, temporary };
  Kind kind = Kind::temporary;
  uint32_t index = 0;  // of the input, the weight or the temporary
  int64_t offset = 0;  // elements into each row (a slice)
  int64_t stride = 0;  // elements from row to row
};

struct Temporary {
  Type type;
  size_t first_step = 0, last_step = 0;  // written, last read
  int output = -1;                       // the graph output that may lend its memory
};

// One node to run, its operands' and its results' places.
struct Step {
  const Node* node = nullptr;  // of Plan::graph
  std::vector<Place> inputs, results;
};

// An output that is no temporary's: copied (or, a state, checked to be in place) at the end.
struct Copy {
  size_t output;
  Place from;
  bool state;
};

struct Plan {
  Graph graph;
  std::vector<Tensor> weights;
  std::vector<Step> steps;
  std::vector<Temporary> temporaries;
  std::vector<Copy> copies;
};

// Ops the CPU has no kernel for, and layouts it does not read: User, naming the op.
Plan make_plan(const Graph& graph, const WeightSource& weights);

// Bytes into one arena for every temporary, such that those alive at once do not overlap; 64-byte
// aligned. The last entry is the arena's size.
std::vector<size_t> place_temporaries(const Plan& plan, const Counts& counts);

}  // namespace ng
