// Where do the tests of this folder find their files?
#pragma once

#include <test_paths.h>
#include <string>

#include "base/json.h"
#include "base/shared_for_test.h"
#include "checkpoint/damage_for_test.h"

namespace ng {

inline Path tokenizer_testdata() { return Path(NG_SOURCE_DIR) / "testdata/tokenizer"; }

}  // namespace ng
