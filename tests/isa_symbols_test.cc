// Do the kernels' object files keep to themselves what they compiled for their instruction set? A
// weak function could be chosen by the linker for everybody, and crash CPUs without that set.
#include <gtest/gtest.h>

#include <test_paths.h>
#include <array>
#include <cstdio>
#include <memory>
#include <set>
#include <string>

namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer = {};
  while (pipe && fgets(buffer.data(), buffer.size(), pipe.get())) text += buffer.data();
  return text;
}

// nm -A: archive:member:address type name
TEST(IsaSymbols, KernelObjectsDefineNothingWeak) {
  const std::string listing = output_of("nm -A --defined-only '" NG_LIBRARY "'");
  std::set<std::string> members;
  for (size_t begin = 0, end = 0; (end = listing.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string line = listing.substr(begin, end - begin);
    for (const char* name : {"avx2.cc.o", "avx512.cc.o"}) {
      const size_t at = line.find(std::string(":") + name + ":");
      if (at == std::string::npos) continue;
      members.insert(name);
      const char type = line.at(line.find(' ', at) + 1);
      EXPECT_EQ(std::string("Ww").find(type), std::string::npos) << line;
    }
  }
  EXPECT_EQ(members.size(), 2u) << "nm found: " << listing.substr(0, 200);
}

}  // namespace
