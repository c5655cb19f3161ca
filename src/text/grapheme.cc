#include "text/grapheme.h"

#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "text/utf8.h"

namespace ng {
namespace {

// Linker is an Extend that joins conjuncts (GB9c), NonJoiner (U+200C) the one that ends them.
// clang-format off
enum Class : uint8_t {
  Other, Control, CR, LF, Extend, Linker, NonJoiner, ZWJ, Prepend, SpacingMark,
  L, V, T, LV, LVT, Regional, Pictographic, Consonant
};
// clang-format on

constexpr uint32_t kEnd = 0xE1000;  // every scalar from here on is Other

std::vector<uint8_t> make_table() {
  std::vector<uint8_t> table(kEnd, Other);
  for (uint32_t code = 0; code < 0x20; ++code) table[code] = Control;
  table[0x7F] = Control;
  table['\r'] = CR;
  table['\n'] = LF;
  table[0x200C] = NonJoiner;
  table[0x200D] = ZWJ;
  for (uint32_t code = 0xAC00; code <= 0xD7A3; ++code)
    table[code] = (code - 0xAC00) % 28 ? LVT : LV;
  const std::pair<Class, const char*> rows[] = {
#include "text/grapheme_table.inc"
  };
  for (const auto& [value, ranges] : rows) {
    // In hexadecimal: from the last range's end to this one's begin, + what more it holds.
    unsigned long code = 0;
    for (char* at = const_cast<char*>(ranges); *at != '\0';) {
      code += std::strtoul(at, &at, 16);
      unsigned long more = *at == '+' ? std::strtoul(at + 1, &at, 16) : 0;
      for (table[code] = value; more > 0; --more) table[++code] = value;
    }
  }
  return table;
}

Class class_of(uint32_t code) {
  static const std::vector<uint8_t> kTable = make_table();
  return code < kEnd ? static_cast<Class>(kTable[code]) : Other;
}

bool is_extend(Class c) { return c == Extend || c == Linker || c == NonJoiner; }

// What the rules need to know of the cluster so far.
struct Cluster {
  Class last;
  bool regional_pair = false;         // its last Regional already has a partner (GB12)
  bool emoji = last == Pictographic;  // Pictographic Extend* ZWJ? (GB11)
  bool conjunct = last == Consonant;  // Consonant [Extend Linker ZWJ]* (GB9c)
  bool linked = false;                // … with a Linker in it

  bool continues_with(Class next) const {
    if (last == CR) return next == LF;                                                   // GB3
    if (last == Control || last == LF || next == Control || next == CR || next == LF) {  // GB4,5
      return false;
    }
    if (last == L && (next == L || next == V || next == LV || next == LVT)) return true;  // GB6
    if ((last == LV || last == V) && (next == V || next == T)) return true;               // GB7
    if ((last == LVT || last == T) && next == T) return true;                             // GB8
    if (is_extend(next) || next == ZWJ || next == SpacingMark) return true;               // GB9,9a
    if (last == Prepend) return true;                                                     // GB9b
    if (next == Consonant) return conjunct && linked;                                     // GB9c
    if (last == ZWJ && next == Pictographic) return emoji;                                // GB11
    return last == Regional && next == Regional && !regional_pair;                        // GB12
  }

  void add(Class next) {
    regional_pair = last == Regional && next == Regional && !regional_pair;
    emoji = next == Pictographic || (emoji && last != ZWJ && (is_extend(next) || next == ZWJ));
    conjunct = next == Consonant || (conjunct && (next == Extend || next == Linker || next == ZWJ));
    linked = conjunct && next != Consonant && (linked || next == Linker);
    last = next;
  }
};

}  // namespace

size_t cluster_end(std::string_view text, size_t begin) {
  const Scalar first = decode_utf8(text, begin);
  size_t at = begin + first.size;
  Cluster cluster{class_of(first.code)};
  while (at < text.size()) {
    const Scalar next = decode_utf8(text, at);
    const Class value = class_of(next.code);
    if (!cluster.continues_with(value)) break;
    cluster.add(value);
    at += next.size;
  }
  return at;
}

}  // namespace ng
