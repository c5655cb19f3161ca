#include "compile/cache.h"

#include <algorithm>

#include "base/error.h"
#include "bundle/bundle.h"
#include "compile/source_hashes.h"

namespace ng {

extern const char* const kBuildId;  // of the sources that decide a bundle's bytes: CMakeLists.txt

namespace {

DiskCache bundles() { return DiskCache(cache_root() / "bundles"); }

std::string key_of(const std::map<std::string, std::string>& hashes,
                   const CompileOptions& options) {
  Json key = {{"build", kBuildId},
              {"dtype", name(options.dtype)},
              {"sources", hashes},
              {"targets", options.targets}};
  const StaticOptions& modules = options.modules;
  if (std::any_of(options.targets.begin(), options.targets.end(),
                  [](const std::string& target) { return find_backend(target).target.fixed; })) {
    key["modules"] = {
        modules.batches,           modules.source_lengths, modules.beams,   modules.target_length,
        modules.device_candidates, modules.with_logits,    modules.reorder, modules.ranks};
    if (!modules.cpu_ops.empty()) key["cpu_ops"] = modules.cpu_ops;
  }
  return sha256(key.dump());
}

// The bundle of a key, or nothing with the reason why it cannot be used.
std::optional<Bundle> try_open(const Path& path, std::string& reason) {
  try {
    return Bundle::open(path);
  } catch (const Error& error) {
    reason = error.what();
    return std::nullopt;
  }
}

// Compiles into the cache. Everything is read after it was hashed: if a file changes meanwhile, the
// bundle is not what its key says and goes.
void fill(const std::string& key, const Path& model, CompileOptions options, Progress& progress) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const Path path = bundles().entry(key);
  progress.say(fmt::format("compiling {} into {}", model.string(), path.string()));
  options.force = false;
  compile(checkpoint, options, path, progress);
  const auto hashes =
      source_hashes(source_files(checkpoint), cache_root() / "sources.json", progress);
  if (hashes == options.known_hashes) return;
  bundles().discard(key);
  fail("{}: was changed while it was compiled: try again", model.string());
}

std::optional<CachedBundle> find_bundle(const std::string& key, const std::function<void()>& wait) {
  FileLock lock(bundles().lock(key), FileLock::Kind::Shared, wait);
  std::string ignored;
  auto bundle = try_open(bundles().entry(key), ignored);
  if (!bundle) return std::nullopt;
  DiskCache::mark_used(lock);
  return CachedBundle{bundles().entry(key), std::move(lock), std::move(*bundle)};
}

}  // namespace

CachedBundle cached_bundle(const Path& model, const CompileOptions& options, Progress& progress,
                           uint64_t limit) {
  const auto sources = source_files(Checkpoint::open(model));
  const DiskCache cache = bundles();
  std::error_code error;
  std::filesystem::create_directories(cache.directory(), error);  // FileLock says what is wrong
  CompileOptions known = options;
  known.known_hashes = source_hashes(sources, cache_root() / "sources.json", progress);
  const std::string key = key_of(known.known_hashes, options);
  known.make_room = [&](uint64_t bytes) { cache.make_room(bytes, limit); };
  const auto wait = [&] { progress.say("waiting for another process that compiles this model"); };
  for (bool filled = false;; filled = true) {
    if (auto found = find_bundle(key, wait)) return std::move(*found);
    const FileLock exclusive(cache.lock(key), FileLock::Kind::Exclusive, wait);
    const Path path = cache.entry(key);
    if (std::filesystem::exists(path, error)) {
      std::string reason;
      if (try_open(path, reason)) continue;
      check(!filled, "{}", reason);
      progress.say(fmt::format("the cache's bundle cannot be used and is made again: {}", reason));
      cache.discard(key);
    }
    cache.remove_leftovers(key);
    cache.label(exclusive, std::filesystem::canonical(model));
    fill(key, model, known, progress);
  }
}

std::vector<CacheEntry> cache_entries() { return bundles().entries(); }

Cleared clear_cache() { return bundles().clear(); }

}  // namespace ng
