// What does the emulated neuronx-cc write? A NEFF's header, and a module's bytes in place of code.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "backends/neuron/neff.h"

namespace ng {

// The header's build begins with kEmulatedBuild: nobody can take it for a NEFF.
std::string pseudo_neff(std::string_view hlo, std::string_view name, const NeuronVersion& version,
                        uint32_t lnc);

// The module in one. A real NEFF, a cut or a damaged one: User, naming `what`.
std::string_view hlo_of(std::span<const std::byte> pseudo_neff, std::string_view what);

}  // namespace ng
