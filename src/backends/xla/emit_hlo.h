// How does a graph look as a module for XLA or for Neuron's compiler?
#pragma once

#include <string>

#include "ir/graph.h"

namespace ng {

// The two differ only in the instructions of top_k and in the kind of the aliases.
enum class Dialect : uint8_t { xla, neuron };

// The bytes of an xla.HloModuleProto: parameters as legal.h says, a tuple of all outputs in graph
// order as root, each state's output aliased to its parameter. Equal graphs give equal bytes. A
// graph that objection() objects to: Internal.
//
// Parsers of all ages take it: ids count from 1 through the whole module, callees stand before
// callers, every array shape has a layout, literals too.
std::string emit_hlo(const Graph& graph, Dialect dialect);

}  // namespace ng
