#include "text/charsmap.h"

#include <cstring>

#include "base/error.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr size_t kLongestReplacement = 1024;  // nmt_nfkc's has 33 bytes

// The fields of a darts-clone unit.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }
uint32_t leaf_value(uint32_t unit) { return unit & ~(1u << 31); }

}  // namespace

Charsmap::Charsmap(std::string_view blob, std::string_view what) {
  if (!blob.empty()) {
    uint32_t size = 0;
    check(blob.size() >= 8, "{}: the character map has {} bytes only", what, blob.size());
    std::memcpy(&size, blob.data(), 4);
    check(size >= 4 && size % 4 == 0 && size <= blob.size() - 4,
          "{}: the character map's trie should have {} bytes, {} are there", what, size,
          blob.size() - 4);
    units_.resize(size / 4);
    std::memcpy(units_.data(), blob.data() + 4, size);
    strings_ = blob.substr(4 + size);
    check(is_valid_utf8(strings_), "{}: the character map's replacements are not UTF-8", what);
  }
  for (char c = 0x20; c < 0x7F; ++c) {
    keeps_[static_cast<unsigned char>(c)] = shortest({&c, 1}).size == 0;
  }
}

Charsmap::Match Charsmap::find(std::string_view text, bool first) const {
  Match match;
  if (units_.empty()) return match;
  uint32_t node = offset(units_[0]);
  uint32_t value = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit) || node >= units_.size()) continue;
    match.size = i + 1;
    value = leaf_value(units_[node]);
    if (first) break;
  }
  // A value outside the strings, inside a character or far too long is a broken map: as if absent.
  if (match.size == 0 || value >= strings_.size() || (strings_[value] & 0xC0) == 0x80) return {};
  const std::string_view tail = std::string_view(strings_).substr(value, kLongestReplacement);
  match.replacement = tail.substr(0, tail.find('\0'));
  return match.replacement.size() == kLongestReplacement ? Match{} : match;
}

}  // namespace ng
