// Where do tests find the files of ../shared, which are not part of the tree?
#pragma once

#include <gtest/gtest.h>

#include <test_paths.h>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/file.h"

namespace ng {

// A file of ../shared (NEUROGLOT_SHARED), or nothing where it is absent, which fails under CI.
inline std::optional<Path> shared_file(const std::string& name) {
  const char* root = std::getenv("NEUROGLOT_SHARED");
  const Path path = Path(root != nullptr ? root : NG_SOURCE_DIR "/../shared") / name;
  if (std::filesystem::exists(path)) return path;
  const char* ci = std::getenv("CI");
  EXPECT_FALSE(ci != nullptr && std::string_view(ci) == "true") << path << " is missing";
  return std::nullopt;
}

}  // namespace ng
