// Which graph does a module say?
#pragma once

#include <span>
#include <string_view>

#include "backends/xla/custom_calls.h"
#include "ir/graph.h"

namespace ng {

// The inverse of emit_hlo(), in either dialect: a verified graph, from which emit_hlo() makes these
// bytes again. Bounded and hostile-proof; whatever emit_hlo() does not write is a User error that
// names `what`, the instruction and what about it is not supported.
Graph import_hlo(std::string_view hlo, std::string_view what,
                 std::span<const CustomCall> calls = neuron_custom_calls());

}  // namespace ng
