// What the bytes of a text mean: UTF-8 in and out, blanks, repair of what is invalid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ng {

struct Scalar {
  uint32_t code = 0;
  uint32_t size = 0;  // bytes it takes in the text, 0 only at its end
  bool valid = true;
};

// The scalar that begins at text[at]. Invalid: code U+FFFD, size the maximal subpart (Unicode 3.9,
// as Python's errors="replace"), at least 1.
Scalar decode_utf8(std::string_view text, size_t at);
void append_utf8(std::string& text, uint32_t code);

bool is_valid_utf8(std::string_view text);
std::string repair_utf8(std::string_view text);  // each invalid part becomes one U+FFFD

bool is_blank(uint32_t code);  // Unicode White_Space: what Rust's char::is_whitespace says

}  // namespace ng
