// Where does an extended grapheme cluster end? (UAX 29, Unicode 16)
#pragma once

#include <cstddef>
#include <string_view>

namespace ng {

// The end of the cluster that begins at text[begin], itself a cluster boundary; begin < size.
// Rules GB3–GB13 with GB9c, as unicode-segmentation 1.12 has them.
size_t cluster_end(std::string_view text, size_t begin);

}  // namespace ng
