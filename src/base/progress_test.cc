#include "base/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace ng {
namespace {

std::string written(const std::function<void(std::FILE*)>& write) {
  char* text = nullptr;
  size_t size = 0;
  std::FILE* file = ::open_memstream(&text, &size);
  write(file);
  std::fclose(file);
  std::string result(text, size);
  std::free(text);
  return result;
}

TEST(Progress, SaysNothingWhenQuiet) {
  EXPECT_EQ(written([](std::FILE* out) {
              Progress progress(true, out);
              progress.begin("work", 100);
              progress.advance(50);
              progress.say("a line");
            }),
            "");
}

TEST(Progress, EndsEachPartWithOnePlainLineWhereThereIsNoTerminal) {
  const std::string text = written([](std::FILE* out) {
    Progress progress(false, out);
    progress.begin("first", 8 << 20);
    for (int i = 0; i < 8; ++i) progress.advance(1 << 20);
    progress.say("between");
    progress.begin("second", 2 << 20);
    progress.advance(1 << 20);
  });
  EXPECT_TRUE(text.starts_with("between\nfirst: 8 of 8 MB, ")) << text;
  EXPECT_NE(text.find(" s\nsecond: 1 of 2 MB, "), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(Progress, CountsWhatIsNotBytesInItsUnit) {
  const std::string text = written([](std::FILE* out) {
    Progress progress(false, out);
    progress.begin("kernels", 4, "sentences");
    progress.advance(3);
  });
  EXPECT_TRUE(text.starts_with("kernels: 3 of 4 sentences, ")) << text;
  EXPECT_EQ(text.find("MB"), std::string::npos) << text;
}

}  // namespace
}  // namespace ng
