// Are bundles refused whose parts do not fit each other?
#include <gmock/gmock.h>

#include "compile/compile.h"
#include "compile/tiny_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

// Where the states lie is decided by the manifest's sizes: they must be the modules' own.
TEST(CheckBundle, RefusesModulesWhoseCachesTheSizesDoNotFit) {
  const TinyCheckpoint checkpoint;
  const Path path = checkpoint.path / "bundle";
  CompileOptions options = small_modules();
  Progress quiet(true);
  for (const char* kind : {"history", "reorder", "cpu"}) {
    options.modules.reorder = kind == std::string_view("reorder");
    if (kind == std::string_view("cpu")) options.modules.cpu_ops = {"attend"};
    options.force = true;
    compile(Checkpoint::open(checkpoint.model), options, path, quiet);
    const Json good = Bundle::open(path).manifest();
    const auto found = [&](const char* key, int value) {
      Json changed = good;
      changed["sizes"][key] = value;
      put_manifest(path, changed);
      return error_of([&] { check_bundle(path, quiet); });
    };
    EXPECT_EQ(found("slots", 2), "");
    EXPECT_THAT(found("slots", 4), HasSubstr("by the sizes in manifest.json it has 32 rows"));
    EXPECT_THAT(found("source", 9), HasSubstr("by the sizes in manifest.json it has 18 rows"));
    EXPECT_THAT(found("beams", 3), HasSubstr("by the sizes in manifest.json it has"));
    EXPECT_THAT(found("target", 5), HasSubstr("by the sizes in manifest.json it has"));
    EXPECT_THAT(found("reorder", options.modules.reorder ? 0 : 1), HasSubstr("it has"));
  }
}

}  // namespace
}  // namespace ng
