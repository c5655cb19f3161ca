// Where do the tests of this folder find their files?
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/damage_for_test.h"

namespace ng {

inline Path tokenizer_testdata() { return Path(NG_SOURCE_DIR) / "testdata/tokenizer"; }

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
