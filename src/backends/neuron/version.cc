#include "backends/neuron/version.h"

#include <charconv>

namespace ng {

std::optional<NeuronVersion> parse_neuron_version(std::string_view text) {
  constexpr std::string_view kBuild =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+-_";
  text = text.substr(0, std::min<size_t>(text.find_first_not_of(kBuild), 100));
  NeuronVersion version;
  version.text = text;
  size_t count = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (count < version.numbers.size()) {
    const auto [after, error] = std::from_chars(at, end, version.numbers[count]);
    if (error != std::errc()) break;
    ++count;
    at = after;
    if (at == end || *at != '.') break;
    ++at;
  }
  if (count < 2) return std::nullopt;
  return version;
}

}  // namespace ng
