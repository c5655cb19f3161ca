// Which ops does Neuron's dialect write as custom calls?
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace ng {

// The call's operands are the node's, in its order; its result is the node's, a tuple where there
// are several. What the call is to know besides, `backend_config` says; all of it must follow from
// the node's types, since importing makes the node of these alone.
struct CustomCall {
  Op op = Op::top_k;  // a primitive
  std::string_view target;
  std::string (*backend_config)(const Node&) = nullptr;  // none: ""
};
std::span<const CustomCall> neuron_custom_calls();

}  // namespace ng
