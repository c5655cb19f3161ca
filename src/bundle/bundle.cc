#include "bundle/bundle.h"

#include <algorithm>

#include "base/error.h"
#include "bundle/format.h"

namespace ng {
namespace {

constexpr int64_t kMaxVocabulary = 4'000'000;
constexpr size_t kMaxFiles = 20'000, kMaxTensors = 100'000, kMaxRank = 4, kMaxTargets = 16;
constexpr uint64_t kMaxBytes = uint64_t{1} << 48;

const Json& object_at(const Json& parent, const char* key, std::string_view what) {
  const auto found = parent.find(key);
  check(found != parent.end() && found->is_object(), "{}: \"{}\" must be an object", what, key);
  return *found;
}

// A required number from 0 to `limit`.
int64_t number_at(const Json& parent, const char* key, int64_t limit, std::string_view what) {
  const int64_t value = json_int(parent, key, -1, what);
  check(value >= 0 && value <= limit, "{}: \"{}\" must be from 0 to {}", what, key, limit);
  return value;
}

uint64_t bytes_at(const Json& parent, const char* key, std::string_view what) {
  return static_cast<uint64_t>(number_at(parent, key, int64_t{kMaxBytes}, what));
}

std::string text_at(const Json& parent, const char* key, std::string_view what) {
  std::string text = json_string(parent, key, "", what);
  check(!text.empty(), "{}: \"{}\" is missing", what, key);
  return text;
}

DType dtype_at(const Json& parent, std::string_view what) {
  DType dtype = DType::f32;
  const std::string text = text_at(parent, "dtype", what);
  check(dtype_from_name(text, dtype), "{}: there is no dtype '{}'", what, shown(text));
  return dtype;
}

// FOLDER/NAME.END with a name of `letters`.
bool lies_in(std::string_view name, std::string_view folder, std::string_view end,
             std::string_view letters) {
  if (!name.starts_with(folder) || !name.ends_with(end) || name.size() > 100) return false;
  if (name.size() <= folder.size() + end.size()) return false;
  name = name.substr(folder.size(), name.size() - folder.size() - end.size());
  return name[0] != '.' && name.find_first_not_of(letters) == std::string_view::npos;
}

// A name in the tables of files and of modules leads to a file of the bundle and nowhere else.
void check_file_name(const std::string& name, std::string_view what) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789-.";
  const bool good = lies_in(name, "graphs/", ".txt", kLetters) ||
                    lies_in(name, "hlo/", ".pb", kLetters) ||
                    lies_in(name, "neff/", ".neff", kLetters) || name == kTokenizerName;
  check(good, "{}: '{}' is no name of a file in a bundle", what, shown(name));
}

std::shared_ptr<const MappedFile> open_sized(const Path& path, uint64_t bytes) {
  auto file = MappedFile::open(path);
  check(file->bytes().size() == bytes, "{}: has {} bytes, the manifest says {}: it is damaged",
        path.string(), file->bytes().size(), bytes);
  return file;
}

}  // namespace

bool is_bundle(const Path& path) {
  std::error_code ignored;
  const auto has = [&](std::string_view name) {
    return std::filesystem::is_regular_file(path / name, ignored);
  };
  return (has(kManifestName) && has(kWeightsName)) || (has(kHashName) && !has("config.json"));
}

Bundle Bundle::open(const Path& path) {
  std::error_code ignored;
  check(std::filesystem::is_directory(path, ignored), "{}: no such directory", path.string());
  check(is_bundle(path), "{}: is no bundle; `neuroglot compile` makes one of a checkpoint",
        path.string());
  for (const std::string_view name : {kManifestName, kHashName, kWeightsName}) {
    check(std::filesystem::is_regular_file(path / name, ignored),
          "{}: this bundle has no {}: it is damaged; compile the checkpoint again", path.string(),
          name);
  }
  Bundle bundle;
  bundle.path_ = path;
  bundle.read_manifest();
  bundle.read_facts();
  bundle.read_modules();
  bundle.open_files();
  return bundle;
}

void Bundle::read_manifest() {
  const std::string what = where(kManifestName);
  const std::string text = read_file(what, kManifestLimits.bytes);
  manifest_ = parse_json(text, what, kManifestLimits);
  check(manifest_.is_object() && json_string(manifest_, "schema", "", what) == kSchema,
        "{}: is not the manifest of a neuroglot bundle", what);
  const int64_t version = json_int(manifest_, "version", 0, what);
  check(version == kBundleVersion,
        "{}: is a bundle of version {}, this neuroglot reads version {}: compile the checkpoint "
        "again, or take the neuroglot that made it",
        path_.string(), version, kBundleVersion);
  identity_ = sha256(text);
  check(read_file(where(kHashName), 1000) == hash_line(identity_),
        "{}: does not have the hash in {}: the bundle is damaged or was edited", what, kHashName);
}

void Bundle::read_facts() {
  const std::string what = where(kManifestName);
  const auto targets = manifest_.find("targets");
  check(targets != manifest_.end() && targets->is_array() && !targets->empty() &&
            targets->size() <= kMaxTargets,
        "{}: \"targets\" must hold 1 to {} names", what, kMaxTargets);
  for (const Json& name : *targets) {
    targets_.insert(text_at(Json{{"targets", name}}, "targets", what));
  }
  licence_ = text_at(manifest_, "licence", what);
  dtype_ = dtype_at(manifest_, what);
  object_at(manifest_, "config", what);
  const auto generation = manifest_.find("generation_config");
  check(generation != manifest_.end() && (generation->is_object() || generation->is_null()),
        "{}: \"generation_config\" must be an object or null", what);

  const Json& model = object_at(manifest_, "model", what);
  facts_.family = text_at(model, "family", what);
  facts_.vocabulary = number_at(model, "vocabulary", kMaxVocabulary, what);
  check(facts_.vocabulary > 0, "{}: the vocabulary is empty", what);
  facts_.parameters = number_at(model, "parameters", int64_t{kMaxBytes}, what);
  facts_.pad = number_at(model, "pad", facts_.vocabulary - 1, what);
  facts_.decoder_start = number_at(model, "decoder_start", facts_.vocabulary - 1, what);
  const auto eos = model.find("eos");
  check(eos != model.end() && eos->is_array() && !eos->empty() && eos->size() <= 64,
        "{}: \"eos\" must hold 1 to 64 ids", what);
  for (const Json& id : *eos) {
    facts_.eos.push_back(number_at(Json{{"eos", id}}, "eos", facts_.vocabulary - 1, what));
  }
}

// "modules" and their "sizes" are there where a target is static; all of those share them.
void Bundle::read_modules() {
  constexpr size_t kMostModules = 10'000;
  const std::string what = where(kManifestName);
  if (!manifest_.contains("modules")) return;
  const Json& sizes = object_at(manifest_, "sizes", what);
  for (const auto& [key, field, most] : kStaticFields) {
    sizes_.*field = number_at(sizes, key, most, what);
  }
  check(sizes_.slots > 0 && sizes_.beams > 0 && sizes_.source > 0 && sizes_.target > 0 &&
            sizes_.vocabulary == facts_.vocabulary && sizes_.ranks > 0,
        "{}: its \"sizes\" do not fit each other", what);
  const Json& modules = manifest_.at("modules");
  check(modules.is_array() && modules.size() <= kMostModules,
        "{}: \"modules\" must be a list of at most {}", what, kMostModules);
  for (const Json& row : modules) {
    check(row.is_object(), "{}: a module is no object", what);
    const std::string name = text_at(row, "name", what), phase = text_at(row, "phase", what);
    const std::string backend = json_string(row, "backend", "device", what);
    const int64_t most_rows = phase == "encode" ? sizes_.source : StaticSizes::kMostBeams;
    Module module{name,
                  phase,
                  number_at(row, "sentences", sizes_.slots, what),
                  number_at(row, "rows", most_rows, what),
                  json_string(row, "part_of", name, what),
                  backend == "cpu"};
    check(module.cpu || backend == "device", "{}: there is no backend '{}'", what, shown(backend));
    check(module.sentences > 0 && module.rows > 0, "{}: module '{}' is empty", what,
          shown(module.name));
    check_file_name(module.file(), what);
    modules_.push_back(std::move(module));
  }
}

void Bundle::open_files() {
  const std::string what = where(kManifestName);
  const Json& files = object_at(manifest_, "files", what);
  check(files.size() <= kMaxFiles, "{}: {} files, at most {}", what, files.size(), kMaxFiles);
  for (const auto& [name, row] : files.items()) {
    check_file_name(name, what);
    const File file = open_sized(path_ / name, bytes_at(row, "bytes", what));
    check(sha256(file->bytes()) == text_at(row, "sha256", what),
          "{}: does not have the hash in the manifest: it is damaged or was edited", where(name));
    files_[name] = file;
  }
  const Json& tensors = object_at(manifest_, "tensors", what);
  check(tensors.size() <= kMaxTensors, "{}: {} tensors, at most {}", what, tensors.size(),
        kMaxTensors);
  weights_file_ = open_sized(path_ / kWeightsName,
                             bytes_at(object_at(manifest_, "weights", what), "bytes", what));
  for (const auto& [name, row] : tensors.items()) read_weight(name, row);
  check_layout();
}

void Bundle::read_weight(const std::string& name, const Json& row) {
  const std::string what = fmt::format("{}: '{}'", where(kManifestName), shown(name));
  check(row.is_object(), "{}: must be an object", what);
  StoredWeight stored;
  stored.type.dtype = dtype_at(row, what);
  stored.offset = bytes_at(row, "offset", what);
  stored.bytes = bytes_at(row, "bytes", what);
  stored.sha256 = text_at(row, "sha256", what);
  const auto shape = row.find("shape");
  check(shape != row.end() && shape->is_array() && shape->size() <= kMaxRank,
        "{}: \"shape\" must be a list of at most {} sizes", what, kMaxRank);
  uint64_t bytes = byte_size(stored.type.dtype);
  for (const Json& item : *shape) {
    const int64_t size = number_at(Json{{"shape", item}}, "shape", int64_t{kMaxBytes}, what);
    stored.type.shape.emplace_back(size);
    check(!__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes), "{}: is too large",
          what);
  }
  check(bytes == stored.bytes, "{}: {} has {} bytes, not {}", what, to_string(stored.type), bytes,
        stored.bytes);
  weights_[name] = std::move(stored);
}

// Offsets are aligned; tensors lie in the file and do not overlap.
void Bundle::check_layout() const {
  std::vector<std::pair<const std::string*, const StoredWeight*>> order;
  for (const auto& [name, stored] : weights_) order.emplace_back(&name, &stored);
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.second->offset < b.second->offset; });
  const uint64_t size = weights_file_->bytes().size();
  uint64_t end = 0;
  for (const auto& [name, stored] : order) {
    check(stored->offset % kWeightAlignment == 0, "{}: '{}' is not aligned", where(kManifestName),
          shown(*name));
    check(stored->offset >= end && stored->offset <= size && stored->bytes <= size - stored->offset,
          "{}: '{}' overlaps another tensor or the end of {}", where(kManifestName), shown(*name),
          kWeightsName);
    end = stored->offset + stored->bytes;
  }
}

std::string_view Bundle::file(const std::string& name) const {
  const auto found = files_.find(name);
  check(found != files_.end(), "{}: has no {}", path_.string(), shown(name));
  const auto bytes = found->second->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string Bundle::Module::file() const { return cpu ? graph_file(name) : module_file(name); }

std::string Bundle::file_of(const std::string& name, const std::string& target) const {
  std::string own = own_file(name, target);
  return has_file(own) ? own : name;
}

Tensor Bundle::weight(const std::string& name) const {
  auto found = weights_.find(name);
  if (found == weights_.end()) found = weights_.find(shared_name(name));
  check(found != weights_.end(), "{}: has no tensor '{}'", path_.string(), shown(name));
  const StoredWeight& stored = found->second;
  return {stored.type, weights_file_, weights_file_->bytes().subspan(stored.offset, stored.bytes)};
}

void Bundle::check_weights(Progress& progress) const {
  constexpr uint64_t kBlock = uint64_t{16} << 20;
  std::map<uint64_t, std::string> names;  // by place in the file
  for (const auto& [name, stored] : weights_) names[stored.offset] = name;
  progress.begin("checking weights", weights_file_->bytes().size());
  Sha256 hash;
  uint64_t end = 0;
  for (const auto& [offset, name] : names) {
    const StoredWeight& stored = weights_.at(name);
    const auto gap = weights_file_->bytes().subspan(end, offset - end);
    check(std::all_of(gap.begin(), gap.end(), [](std::byte b) { return b == std::byte{0}; }),
          "{}: the bytes before '{}' are not zero", where(kWeightsName), name);
    for (uint64_t at = 0; at < stored.bytes; at += kBlock) {
      const uint64_t bytes = std::min(kBlock, stored.bytes - at);
      hash.update(weights_file_->bytes().subspan(offset + at, bytes));
      weights_file_->release(offset + at, bytes);
      progress.advance(bytes);
    }
    check(hash.finish() == stored.sha256,
          "{}: '{}' does not have the hash in the manifest: compile the checkpoint again",
          where(kWeightsName), shown(name));
    end = offset + stored.bytes;
  }
  check(end == weights_file_->bytes().size(), "{}: bytes follow the last tensor",
        where(kWeightsName));
  progress.end();
}

}  // namespace ng
