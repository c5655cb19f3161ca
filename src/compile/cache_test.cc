#include "compile/cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "bundle/bundle.h"
#include "compile/source_hashes.h"
#include "compile/tiny_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A cache of its own, and a checkpoint that was written long ago.
struct Cache : TinyCheckpoint {
  Path home = path / "home";
  Progress quiet{true};
  Cache() {
    ::setenv("NEUROGLOT_HOME", home.c_str(), 1);
    age();
  }
  ~Cache() { ::unsetenv("NEUROGLOT_HOME"); }
  // Moves the times of the checkpoint's files into the past, so that their hashes are remembered.
  void age() const {
    for (const auto& file : std::filesystem::directory_iterator(model)) {
      std::filesystem::last_write_time(
          file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
    }
  }
  CachedBundle get(DType dtype = DType::f32, uint64_t limit = kCacheBytes) {
    CompileOptions options;
    options.dtype = dtype;
    options.threads = 1;
    return cached_bundle(model, options, quiet, limit);
  }
  std::vector<std::string> bundle_files() const {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(home / "bundles")) {
      names.push_back(file.path().filename());
    }
    return names;
  }
};

// Runs `body` in `count` processes at once; how they ended.
std::vector<int> in_processes(int count, const std::function<void(int)>& body) {
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 0;
      try {
        body(i);
      } catch (const std::exception& error) {
        fmt::print(stderr, "process {}: {}\n", i, error.what());
        code = 1;
      }
      ::_exit(code);
    }
    children.push_back(child);
  }
  std::vector<int> results;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    results.push_back(status);
  }
  return results;
}

ino_t inode(const Path& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_ino;
}

TEST(Cache, CompilesOnceForEachCheckpointAndOption) {
  Cache cache;
  const Path first = cache.get().path;
  const ino_t made = inode(first / "manifest.json");
  EXPECT_EQ(Bundle::open(first).dtype(), DType::f32);
  EXPECT_EQ(cache.get().path, first);
  EXPECT_EQ(inode(first / "manifest.json"), made);
  const Path other = cache.get(DType::bf16).path;
  EXPECT_NE(other, first);
  EXPECT_EQ(Bundle::open(other).dtype(), DType::bf16);
  std::filesystem::copy(cache.model, cache.path / "copy");
  EXPECT_EQ(cached_bundle(cache.path / "copy", {}, cache.quiet).path, first);
}

TEST(Cache, AChangedFileIsAnotherBundle) {
  Cache cache;
  const Path first = cache.get().path;
  Json config = tiny_config();
  config["max_length"] = 99;
  put_file(cache.model / "config.json", config.dump());
  const Path second = cache.get().path;
  EXPECT_NE(second, first);
  EXPECT_EQ(Bundle::open(second).config(), config);
  put_file(cache.model / "tokenizer_config.json", "{}");
  EXPECT_NE(cache.get().path, second);
}

TEST(Cache, BelievesHashesOfFilesThatDidNotChange) {
  Cache cache;
  cache.get();
  const Path index = cache.home / "sources.json";
  Json known = Json::parse(read_file(index, 1 << 20));
  const std::string weights = std::filesystem::canonical(cache.model / "model.safetensors");
  ASSERT_TRUE(known.contains(weights));
  known[weights]["sha256"] = "believed";
  write_file(index, known.dump());
  const auto sources = source_files(Checkpoint::open(cache.model));
  const auto hash = [&] {
    return source_hashes(sources, index, cache.quiet).at("model.safetensors");
  };
  EXPECT_EQ(hash(), "believed");
  // The same size and content with another time, or another inode, is read again.
  std::filesystem::last_write_time(
      weights, std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  const std::string real = sha256(read_file(weights, 1 << 24));
  EXPECT_EQ(hash(), real);
  known[weights]["sha256"] = "believed";
  write_file(index, known.dump());
  const auto time = std::filesystem::last_write_time(weights);
  std::filesystem::copy(weights, cache.model / "new");
  std::filesystem::rename(cache.model / "new", weights);
  std::filesystem::last_write_time(weights, time);
  EXPECT_EQ(hash(), real);
  write_file(index, "{ damaged");
  EXPECT_EQ(hash(), real);
}

// What other models left in the index, or damage did, is nothing to this one.
TEST(Cache, RememberedPathsThatCannotBeReadAreForgotten) {
  Cache cache;
  const Path index = cache.path / "index.json", loop = cache.path / "loop";
  std::filesystem::create_symlink(loop, loop);
  const Json known = {{std::string(300, 'x'), Json::object()},
                      {"/" + std::string(5000, 'y'), Json::object()},
                      {(loop / "file").string(), Json::object()},
                      {std::string("a\0b", 3), Json::object()}};
  put_file(index, known.dump());
  const auto sources = source_files(Checkpoint::open(cache.model));
  source_hashes(sources, index, cache.quiet);
  const Json kept = Json::parse(read_file(index, 1 << 20));
  EXPECT_EQ(kept.size(), sources.size());
  EXPECT_TRUE(kept.contains(std::filesystem::canonical(cache.model / "config.json")));
}

TEST(Cache, DoesNotRememberAFileThatWasWrittenJustNow) {
  Cache cache;
  put_file(cache.model / "config.json", tiny_config().dump());
  const auto sources = source_files(Checkpoint::open(cache.model));
  const Path index = cache.path / "index.json";
  source_hashes(sources, index, cache.quiet);
  const Json known = Json::parse(read_file(index, 1 << 20));
  EXPECT_TRUE(known.contains(std::filesystem::canonical(cache.model / "model.safetensors")));
  EXPECT_FALSE(known.contains(std::filesystem::canonical(cache.model / "config.json")));
}

TEST(Cache, ProcessesThatWantOneBundleGetOneBundle) {
  Cache cache;
  const auto results = in_processes(4, [&](int i) {
    for (int round = 0; round < 3; ++round) {
      const CachedBundle found = cache.get(i % 2 == 0 ? DType::f32 : DType::bf16);
      Bundle::open(found.path).check_weights(cache.quiet);
    }
  });
  EXPECT_THAT(results, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(cache_entries().size(), 2U);
  EXPECT_EQ(cache.bundle_files().size(), 4U);  // two bundles and their locks
}

TEST(Cache, ProcessesThatEvictEachOthersBundlesAllGetTheirs) {
  Cache cache;
  const auto results = in_processes(3, [&](int i) {
    for (int round = 0; round < 4; ++round) {
      const CachedBundle found = cache.get((i + round) % 2 == 0 ? DType::f32 : DType::bf16, 1);
      Bundle::open(found.path).check_weights(cache.quiet);
      if (i == 2) clear_cache();
    }
  });
  EXPECT_THAT(results, ElementsAre(0, 0, 0));
}

TEST(Cache, WorksAfterACompilationWasKilledAtAnyPoint) {
  Cache cache;
  cache.get();
  const auto whole = cache_entries().at(0).bytes;
  clear_cache();
  int killed = 0;
  for (int delay = 0; delay < 20; ++delay) {
    const pid_t child = ::fork();
    if (child == 0) {
      cache.get();
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(delay * 700));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
    if (delay % 5 != 4) continue;
    const CachedBundle found = cache.get();
    Bundle::open(found.path).check_weights(cache.quiet);
    EXPECT_EQ(cache_entries().at(0).bytes, whole);
    EXPECT_EQ(cache.bundle_files().size(), 2U);
    std::filesystem::remove_all(found.path);
  }
  EXPECT_GT(killed, 0);
}

TEST(Cache, TheBundleUsedLongestAgoMakesRoomUnlessItIsInUse) {
  Cache cache;
  const Path first = cache.get(DType::f32).path;
  const uint64_t size = cache_entries().at(0).bytes;
  const auto old = [&](const Path& bundle) {
    std::filesystem::last_write_time(
        Path(bundle).concat(".lock"),
        std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  };
  const Path second = cache.get(DType::bf16, 10 * size).path;
  EXPECT_EQ(cache_entries().size(), 2U);
  EXPECT_EQ(cache_entries()[0].path, second);
  EXPECT_EQ(cache_entries()[0].label, std::filesystem::canonical(cache.model));
  old(first);
  Json config = tiny_config();
  config["max_length"] = 1;
  put_file(cache.model / "config.json", config.dump());
  {
    const CachedBundle third = cache.get(DType::f32, 2 * size);
    EXPECT_FALSE(std::filesystem::exists(first));
    EXPECT_TRUE(std::filesystem::exists(second));
    old(third.path);
    cache.get(DType::bf16, size);
    EXPECT_TRUE(std::filesystem::exists(third.path));
    EXPECT_FALSE(std::filesystem::exists(second));
    const Cleared cleared = clear_cache();
    EXPECT_EQ(cleared.in_use, 1U);
    EXPECT_EQ(cleared.removed, 1U);
  }
  EXPECT_EQ(clear_cache().removed, 1U);
  EXPECT_TRUE(cache.bundle_files().empty());
}

TEST(Cache, ABundleThatIsDamagedIsMadeAgain) {
  Cache cache;
  const Path bundle = cache.get().path;
  const auto damages = {
      std::function<void()>([&] { std::filesystem::remove(bundle / "weights.bin"); }),
      std::function<void()>([&] { std::filesystem::remove(bundle / "manifest.json"); }),
      std::function<void()>([&] { put_file(bundle / "manifest.json", "{}"); }),
      std::function<void()>([&] { std::filesystem::resize_file(bundle / "weights.bin", 64); }),
      std::function<void()>([&] {
        std::filesystem::remove_all(bundle);
        put_file(bundle, "a file");
      })};
  for (const auto& damage : damages) {
    damage();
    EXPECT_EQ(cache.get().path, bundle);
    Bundle::open(bundle).check_weights(cache.quiet);
    EXPECT_EQ(cache.bundle_files().size(), 2U);
  }
}

// The file of a lock that is held may be removed, as `cache clear` does: whoever wants it then gets
// a lock on a new file or waits, and is never told that it "cannot be locked".
TEST(Cache, LocksWhoseFilesAreRemovedAreTakenAnew) {
  Cache cache;
  std::filesystem::create_directories(cache.home);
  const Path path = cache.home / "lock";
  const auto results = in_processes(4, [&](int) {
    for (int round = 0; round < 5000; ++round) {
      if (auto lock = FileLock::try_lock(path, FileLock::Kind::Exclusive))
        std::filesystem::remove(path);
    }
  });
  EXPECT_THAT(results, ElementsAre(0, 0, 0, 0));
}

TEST(Cache, SaysWhatToDoWhereItCannotBeWritten) {
  Cache cache;
  put_file(cache.home, "a file");
  EXPECT_THAT(refusal([&] { cache.get(); }), HasSubstr("set NEUROGLOT_HOME"));
}

TEST(Cache, IsWhereTheEnvironmentSays) {
  Cache cache;
  ::unsetenv("NEUROGLOT_HOME");
  ::setenv("XDG_CACHE_HOME", (cache.path / "xdg").c_str(), 1);
  EXPECT_EQ(cache.get().path.parent_path(), cache.path / "xdg/neuroglot/bundles");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  const std::string home = ::getenv("HOME");
  ::setenv("HOME", (cache.path / "me").c_str(), 1);
  EXPECT_EQ(cache.get().path.parent_path(), cache.path / "me/.cache/neuroglot/bundles");
  ::setenv("HOME", home.c_str(), 1);
  ::unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace ng
