// Which of two programs of the Neuron SDK is older?
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ng {

// "2.27.5334.0+abc123": up to four numbers count, the rest is for people.
struct NeuronVersion {
  std::array<uint32_t, 4> numbers{};
  std::string text;  // printable, at most 100 bytes

  uint32_t major() const { return numbers[0]; }
  friend auto operator<=>(const NeuronVersion& a, const NeuronVersion& b) {
    return a.numbers <=> b.numbers;
  }
  friend bool operator==(const NeuronVersion& a, const NeuronVersion& b) {
    return a.numbers == b.numbers;
  }
};

// The version that `text` begins with; two numbers at least.
std::optional<NeuronVersion> parse_neuron_version(std::string_view text);

}  // namespace ng
