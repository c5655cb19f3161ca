#include "base/error.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace ng {

int Error::exit_code() const {
  switch (kind_) {
    case Kind::User: return 1;
    case Kind::Device: return 2;
    case Kind::Verification: return 3;
    case Kind::Internal: return 70;
  }
  return 70;
}

void internal_error(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(Error::Kind::Internal,
              fmt::format("{}:{}: {} does not hold: {}", file, line, condition, message));
}

namespace {

// Bytes of the well-formed UTF-8 character that `text` begins with, 0 if it begins with none
// (Unicode 15, table 3-7).
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : uint8_t{0}; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4 || !follows(1)) return 0;
  if (first < 0xE0) return 2;
  const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool outside = (first == 0xED && byte(1) > 0x9F) || (first == 0xF4 && byte(1) > 0x8F);
  if (overlong || outside || !follows(2)) return 0;
  if (first < 0xF0) return 3;
  return follows(3) ? 4 : 0;
}

}  // namespace

std::string shown(std::string_view value, size_t limit) {
  std::string out;
  while (!value.empty()) {
    if (out.size() >= limit) return out + "…";
    const auto first = static_cast<uint8_t>(value.front());
    const size_t bytes = character_bytes(value);
    if (bytes == 0 || first < 0x20 || first == 0x7F) {
      out += fmt::format("\\x{:02x}", first);
    } else {
      out += value.substr(0, bytes);
    }
    value.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return out;
}

}  // namespace ng
