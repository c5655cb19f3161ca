#include "base/git_lfs.h"

#include "base/error.h"

namespace ng {

void check_fetched(std::string_view bytes, const Path& path) {
  check(bytes.size() > 1024 || !bytes.starts_with("version https://git-lfs"),
        "{}: is a git-lfs pointer, not the file itself: run git lfs pull", path.string());
}

}  // namespace ng
