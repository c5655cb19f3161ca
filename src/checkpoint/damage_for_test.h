// How do readers stand up to files that were damaged on the way or made to hurt? For tests.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "base/refusal_for_test.h"

namespace ng {

// A directory that goes when the test ends.
struct TemporaryDirectory {
  Path path;
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "neuroglot.XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
};

inline void put_file(const Path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;  // not synced: tests write thousands
}

// One to four random edits: a byte, a run, an extreme number, a cut, a doubled part.
inline std::string damaged(std::string bytes, std::mt19937_64& random) {
  for (uint64_t edits = 1 + random() % 4; edits > 0 && !bytes.empty(); --edits) {
    const size_t at = random() % bytes.size();
    const size_t length = std::min<size_t>(1 + random() % 8, bytes.size() - at);
    switch (random() % 6) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8))); break;
      case 2: bytes.replace(at, length, std::string(length, random() % 2 ? '\xFF' : '\0')); break;
      case 3: bytes.erase(at, random() % 8 == 0 ? std::string::npos : length); break;
      case 4: bytes.insert(at, bytes.substr(random() % bytes.size(), length)); break;
      default: bytes[at] = "0123456789{}[]\",:-(.qcRQ}stu"[random() % 28]; break;
    }
  }
  return bytes;
}

// Runs `read` on `count` damaged copies of `valid`: success or a User error, nothing else. Both
// must happen, or the damage would show nothing.
inline void expect_survives(const std::string& valid, int count,
                            const std::function<void(std::span<const std::byte>)>& read) {
  std::mt19937_64 random(20'240'601);
  int accepted = 0;
  for (int i = 0; i < count; ++i) {
    const std::string bytes = damaged(valid, random);
    const std::vector<std::byte> exact(reinterpret_cast<const std::byte*>(bytes.data()),
                                       reinterpret_cast<const std::byte*>(bytes.data()) +
                                           bytes.size());  // so that asan sees one byte too far
    try {
      read(exact);
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), Error::Kind::User) << "copy " << i << ": " << error.what();
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, count);
}

}  // namespace ng
