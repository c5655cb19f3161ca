// Does chrF++ give sacrebleu's numbers?
#include "text/chrf.h"

#include <gtest/gtest.h>

#include <test_paths.h>
#include <sstream>
#include <string>

#include "base/file.h"
#include "base/json.h"

namespace ng {
namespace {

TEST(ChrF, IsSacrebleus) {
  std::istringstream lines(read_file(Path(NG_SOURCE_DIR) / "testdata/chrf_goldens.jsonl", 1 << 20));
  int cases = 0;
  for (std::string line; std::getline(lines, line); ++cases) {
    const Json golden = parse_json(line, "golden");
    const std::vector<std::string> texts = golden.at("hypotheses"),
                                   wanted = golden.at("references");
    EXPECT_NEAR(chrf(texts, wanted), golden.at("score").get<double>(), 1e-9) << line;
  }
  EXPECT_EQ(cases, 120);
}

TEST(ChrF, IsNothingOfNothingAndAllOfTheSame) {
  EXPECT_EQ(chrf({}, {}), 0);
  const std::vector<std::string> text = {"Où est la gare ?"}, other = {"xyz"};
  EXPECT_DOUBLE_EQ(chrf(text, text), 100);
  EXPECT_EQ(chrf(text, other), 0);
}

}  // namespace
}  // namespace ng
