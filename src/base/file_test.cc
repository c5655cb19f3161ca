// Files and directories appear complete or not at all, and bad paths are named.
#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/refusal_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

class File : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "neuroglot_file_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Everything in the folder, so that a test sees what was left behind.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      found.push_back(entry.path().filename().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  Path folder_;
};

using Names = std::vector<std::string>;

// FIPS 180-2, appendix B, and the empty message.
TEST(Sha256, IsThatOfTheStandard) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_F(File, ReadsWithinTheLimitAndRefusesOneByteMore) {
  write_file(folder_ / "a", "12345");
  EXPECT_EQ(read_file(folder_ / "a", 5), "12345");
  EXPECT_THAT(error_of([&] { read_file(folder_ / "a", 4); }), HasSubstr("has 5 bytes, at most 4"));
}

TEST_F(File, RefusesWhatIsNoRegularFile) {
  const Path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);  // a reader that waited would hang here
  EXPECT_THAT(error_of([&] { read_file(pipe, 9); }), HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of([&] { read_file(folder_, 9); }), HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of([&] { MappedFile::open("/dev/null"); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([&] { MappedFile::open(folder_ / "none"); }),
              HasSubstr("none: cannot be opened: No such file"));
}

TEST_F(File, MapsBytesThatOutliveTheName) {
  const std::string text(100000, 'x');
  write_file(folder_ / "a", text);
  write_file(folder_ / "empty", "");
  const auto file = MappedFile::open(folder_ / "a");
  std::filesystem::remove(folder_ / "a");
  file->release(1, 99998);
  ASSERT_EQ(file->bytes().size(), text.size());
  EXPECT_EQ(std::memcmp(file->bytes().data(), text.data(), text.size()), 0);
  EXPECT_EQ(MappedFile::open(folder_ / "empty")->bytes().size(), 0U);
}

TEST_F(File, WriteReplacesWholeAndLeavesNothingElse) {
  write_file(folder_ / "a", "old");
  write_file(folder_ / "a", "new");
  EXPECT_EQ(read_file(folder_ / "a", 9), "new");
  EXPECT_EQ(names(), Names{"a"});
}

TEST_F(File, WriteThatFailsNamesThePathAndLeavesNothing) {
  EXPECT_THAT(error_of([&] { write_file(folder_ / "no" / "a", "x"); }), HasSubstr("no/a"));
  std::filesystem::create_directory(folder_ / "taken");
  EXPECT_THAT(error_of([&] { write_file(folder_ / "taken", "x"); }), HasSubstr("taken"));
  EXPECT_EQ(names(), Names{"taken"});
}

TEST_F(File, WholeFileIsAsItWasUntilCommit) {
  write_file(folder_ / "a", "old");
  {
    WholeFileWriter given_up(folder_ / "a");
    given_up.write("half");
    given_up.flush();
    EXPECT_EQ(names().size(), 2U);
  }
  EXPECT_EQ(read_file(folder_ / "a", 9), "old");
  WholeFileWriter first(folder_ / "a"), second(folder_ / "a");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(folder_ / "a", 9), "first");
  EXPECT_EQ(names(), Names{"a"});
}

TEST_F(File, WholeFileReplacesWhatALinkLeadsTo) {
  std::filesystem::create_directory(folder_ / "sub");
  std::filesystem::create_symlink("sub/one", folder_ / "link");
  std::filesystem::create_symlink("../two", folder_ / "sub" / "one");
  for (const char* text : {"new", "newer"}) {  // where nothing is yet, and then a file
    write_file(folder_ / "link", text);
    EXPECT_EQ(read_file(folder_ / "two", 9), text);
  }
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "link"), "sub/one");
  EXPECT_EQ(names(), (Names{"link", "sub", "two"}));
}

TEST_F(File, WholeFileWritesAFifoAndAnOpenFileInPlace) {
  const Path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int fd = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  WholeFileWriter writer(pipe);
  char text[9] = {};
  writer.write("now");
  writer.flush();
  EXPECT_EQ(::read(fd, text, sizeof(text)), 3);
  writer.write("then");
  writer.commit();
  EXPECT_EQ(::read(fd, text, sizeof(text)), 4);
  ::close(fd);
  write_file(folder_ / "a", "before ");
  const int open = ::open((folder_ / "a").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  std::filesystem::create_symlink(fmt::format("/dev/fd/{}", open), folder_ / "link");
  write_file(folder_ / "link", "after");
  ::close(open);
  EXPECT_EQ(read_file(folder_ / "a", 99), "before after");
  EXPECT_EQ(names(), (Names{"a", "link", "pipe"}));
}

TEST_F(File, WholeFileRemovesWhatKilledWritersLeftAndNobodyElses) {
  WholeFileWriter alive(folder_ / "a");
  for (const char* text : {"", "half"}) {
    const pid_t child = ::fork();
    if (child == 0) {
      WholeFileWriter killed(folder_ / "a");
      killed.write(text);
      ::_exit(0);  // no destructor runs
    }
    ::waitpid(child, nullptr, 0);
  }
  write_file(folder_ / ".b.0123456789abcdef.partial", "");
  EXPECT_EQ(names().size(), 3U);
  write_file(folder_ / "a", "x");
  EXPECT_EQ(names().size(), 3U);  // that of `alive`, that of b, and a
  alive.write("y");
  alive.commit();
  EXPECT_EQ(names(), (Names{".b.0123456789abcdef.partial", "a"}));
}

TEST_F(File, ReadersSeeOneWholeVersionWhileWritersRace) {
  const Path path = folder_ / "a";
  write_file(path, std::string(5000, '0'));
  std::atomic<bool> done{false};
  std::vector<std::thread> writers;
  for (const char mark : {'1', '2'}) {
    writers.emplace_back([&, mark] {
      for (int i = 0; i < 50; ++i) write_file(path, std::string(5000, mark));
    });
  }
  std::thread reader([&] {
    while (!done) {
      const std::string text = read_file(path, 5000);
      EXPECT_EQ(text, std::string(5000, text.at(0)));
    }
  });
  for (auto& writer : writers) writer.join();
  done = true;
  reader.join();
  EXPECT_EQ(names(), Names{"a"});
}

TEST_F(File, WriterWritesAndPadsWhateverTheSizes) {
  std::string all;
  FileWriter writer(folder_ / "a");
  for (size_t size : {0, 1, 63, 1 << 20, 3, (3 << 20) + 5}) {
    const std::string part(size, static_cast<char>('a' + size % 26));
    writer.write(part);
    writer.pad_to(64);
    all += part;
    all.resize((all.size() + 63) / 64 * 64, '\0');
    EXPECT_EQ(writer.size(), all.size());
  }
  writer.close();
  EXPECT_EQ(read_file(folder_ / "a", all.size()), all);
}

TEST_F(File, WriterNamesAFullDisk) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  EXPECT_THAT(error_of([&] {
                FileWriter writer("/dev/full");
                writer.write(std::string(2 << 20, 'x'));
                writer.close();
              }),
              HasSubstr("/dev/full: cannot be written: No space left"));
}

TEST_F(File, WriterWritesToDevicesThatHaveNoDisk) {
  FileWriter writer("/dev/null");
  writer.write("x");
  EXPECT_NO_THROW(writer.close());
}

TEST_F(File, DirectoryAppearsOnlyAtCommit) {
  {
    DirectoryWriter writer(folder_ / "sub" / "bundle/", false);
    write_file(writer.path() / "f", "x");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "sub" / "bundle"));
    writer.commit();
  }
  EXPECT_EQ(read_file(folder_ / "sub" / "bundle" / "f", 9), "x");
  { DirectoryWriter given_up(folder_ / "other", false); }
  EXPECT_EQ(names(), Names{"sub"});
}

TEST_F(File, DirectoryRefusesAnExistingTargetWithoutReplace) {
  std::filesystem::create_directory(folder_ / "b");
  EXPECT_THAT(error_of([&] { DirectoryWriter(folder_ / "b", false); }), HasSubstr("--force"));
  write_file(folder_ / "file", "x");
  EXPECT_THAT(error_of([&] { DirectoryWriter(folder_ / "file", false); }), HasSubstr("exists"));
  EXPECT_NE(error_of([&] { DirectoryWriter(folder_ / "file" / "under", false); }), "");
  EXPECT_EQ(names(), (Names{"b", "file"}));
}

TEST_F(File, DirectoryReplacesAtCommitAndNotBefore) {
  for (const char* text : {"one", "two", "three"}) {
    DirectoryWriter writer(folder_ / "b", true);
    write_file(writer.path() / text, text);
    writer.commit();
    EXPECT_EQ(read_file(folder_ / "b" / text, 9), text);
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "b" / "two"));
  {
    DirectoryWriter given_up(folder_ / "b", true);
    write_file(given_up.path() / "four", "4");
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ / "b" / "three"));
  EXPECT_EQ(names(), Names{"b"});
}

TEST_F(File, DirectoryThatAppearedMeanwhileIsKept) {
  DirectoryWriter writer(folder_ / "b", false);
  write_file(writer.path() / "mine", "1");
  std::filesystem::create_directory(folder_ / "b");
  write_file(folder_ / "b" / "theirs", "2");
  EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("b: exists; --force replaces it"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "b" / "theirs"));
}

// kill -9 in the middle: no target, and the next writer removes what is left.
TEST_F(File, DirectoryOfAKilledProcessNeverAppearsAndIsRemovedByTheNextWriter) {
  const Path target = folder_ / "b";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    DirectoryWriter writer(target, false);
    write_file(writer.path() / "f", "x");
    ::_exit(0);  // as after a kill: no destructor runs
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(std::filesystem::exists(target));
  EXPECT_EQ(names().size(), 1U);

  DirectoryWriter alive(target, false);  // removes the dead one's
  write_file(alive.path() / "g", "y");
  EXPECT_EQ(names().size(), 1U);
  DirectoryWriter second(target, false);  // and leaves a living one's alone
  EXPECT_EQ(names().size(), 2U);
  alive.commit();
  EXPECT_EQ(read_file(target / "g", 9), "y");
}

// One that was killed before it wrote anything leaves an empty directory; one that is about to lock
// its own makes another.
TEST_F(File, WritersOfOneDirectoryTakeNothingFromEachOther) {
  const Path target = folder_ / "b", left = folder_ / ".b.0123456789abcdef.partial";
  std::filesystem::create_directory(left);
  { DirectoryWriter writer(target, true); }
  EXPECT_FALSE(std::filesystem::exists(left));
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        try {
          DirectoryWriter writer(target, true);
          write_file(writer.path() / "x", "y");
        } catch (const Error&) {
          ++failed;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(names(), Names());
}

TEST_F(File, FreeDiskBytesAreThoseOfTheFileSystem) {
  EXPECT_GT(free_disk_bytes(folder_), 0U);
  EXPECT_NE(error_of([&] { free_disk_bytes(folder_ / "none"); }), "");
}

}  // namespace
}  // namespace ng
