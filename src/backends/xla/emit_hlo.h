// How does a graph look as a module for XLA or for Neuron's compiler?
#pragma once

#include <span>
#include <string>

#include "backends/xla/custom_calls.h"
#include "ir/graph.h"

namespace ng {

// The two differ only in the kind of the aliases and in the ops that are custom calls in Neuron's.
enum class HloDialect : uint8_t { xla, neuron };

// The bytes of an xla.HloModuleProto: parameters as legal.h says, a tuple of all outputs in graph
// order as root, each state's output aliased to its parameter. Equal graphs give equal bytes. A
// graph that objection() objects to: Internal.
//
// Parsers of all ages take it: ids count from 1 through the whole module, callees stand before
// callers, every array shape has a layout, literals too. `calls` are of Neuron's dialect.
std::string emit_hlo(const Graph& graph, HloDialect dialect,
                     std::span<const CustomCall> calls = neuron_custom_calls());

}  // namespace ng
