// Which graphs become HLO, and what are a module's parameters?
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace ng {

// What keeps a verified graph from becoming HLO, "" if nothing does. A legal graph has
//   exact sizes, f32, bf16 and s32; scalar constants; none of frequencies, pack, unpack and the
//   composites; dots of two f32 or two bf16; broadcasts whose axes keep their size; no reduce_max
//   of nothing; no input or weight that no output depends on; at least one output; names that are
//   UTF-8 without control characters and that tell what they name (below).
// That the indices of gather_rows and write_rows are in range is the caller's promise.
std::string objection(const Graph& graph);

// The graph as HLO can say it, which importing gives back: without dead nodes, constants as their
// type holds them, slices that keep everything along axis 0.
Graph canonical(const Graph& graph);

// Parameters: runtime inputs in graph order, then states in graph order, then weights in node
// order. Their names in a module: NAME, NAME.must_alias_input, weight.NAME. The suffix keeps a
// state's two ends apart where inputs and outputs share one namespace (AWS's nkipy, trace.py).
enum class Role : uint8_t { input, state, weight };
struct Leaf {
  Role role = Role::input;
  uint32_t node = 0;
};
std::vector<Leaf> parameters(const Graph& graph);

struct RoleName {
  Role role = Role::input;
  std::string name;
};
std::string module_name(const RoleName& named);
RoleName split_module_name(std::string_view name);

}  // namespace ng
