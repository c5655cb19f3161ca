#include "text/utf8.h"

#include <cstring>

namespace ng {

Scalar decode_utf8(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1, true};
  const uint32_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return {0xFFFD, 1, false};
  // The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF.
  const uint32_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint32_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  uint32_t code = lead & (0x7F >> length);
  for (uint32_t i = 1; i < length; ++i) {
    const uint32_t byte = at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
    const bool fits = i == 1 ? byte >= low && byte <= high : (byte & 0xC0) == 0x80;
    if (!fits) return {0xFFFD, i, false};
    code = code << 6 | (byte & 0x3F);
  }
  return {code, length, true};
}

void append_utf8(std::string& text, uint32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  text += static_cast<char>((~(0xFFU >> (more + 1)) & 0xFF) | code >> 6 * more);
  for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (code >> 6 * i & 0x3F));
}

bool is_valid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size()) std::memcpy(&eight, text.data() + at, 8);
    if (at + 8 <= text.size() && (eight & 0x8080808080808080u) == 0) {
      at += 8;
      continue;
    }
    const Scalar scalar = decode_utf8(text, at);
    if (!scalar.valid) return false;
    at += scalar.size;
  }
  return true;
}

std::string repair_utf8(std::string_view text) {
  std::string repaired;
  for (size_t at = 0; at < text.size();) {
    const Scalar scalar = decode_utf8(text, at);
    append_utf8(repaired, scalar.code);
    at += scalar.size;
  }
  return repaired;
}

bool is_blank(uint32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

}  // namespace ng
