// Is a file's content there, or only git-lfs's pointer to it?
#pragma once

#include <string_view>

#include "base/file.h"

namespace ng {

// User when `bytes`, all of the file at `path`, are the few lines of text that git leaves in place
// of a large file that was not fetched.
void check_fetched(std::string_view bytes, const Path& path);

}  // namespace ng
