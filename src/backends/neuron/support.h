// Which ops does neuronx-cc take, in which form, and where is that published?
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace ng {

enum class Support : uint8_t {
  supported,
  decomposed,   // legalize puts others in its place
  restricted,   // where `restriction` has nothing to say
  unsupported,  // left to the CPU
};
std::string_view name(Support support);

struct SupportRow {
  Op op;
  std::string_view instructions;  // HLO that the node becomes, in order; "": none
  Support level;
  // What makes this node one that is not taken, "" if nothing does.
  std::string (*restriction)(const Graph&, const Node&);
  // Why, with the source: "SDK" is github aws-neuron/aws-neuron-sdk 2.32, "#n" its issues, NCC_… an
  // error of neuronx-cc; the table of supported operators is that of its release notes.
  std::string_view reason;
  std::string_view targets = "inf2 trn1 trn2";  // for which this is published
};
std::span<const SupportRow> support_table();  // in the order of op_table()
inline const SupportRow& support(Op op) { return support_table()[static_cast<size_t>(op)]; }

inline constexpr std::string_view kSupportVersion = "2.27";  // of neuronx-cc, in SDK 2.32

// Why the target's compiler does not take the node of a legal graph (backends/xla/legal.h), "" if
// nothing is known against it. XLA ("pjrt") takes whatever is legal.
std::string objection(std::string_view target, const Graph& graph, uint32_t node);

}  // namespace ng
