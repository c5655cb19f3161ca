#include "checkpoint/checkpoint.h"

#include <algorithm>

#include "base/error.h"
#include "base/git_lfs.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/torch_zip.h"

namespace ng {
namespace {

constexpr size_t kMaxShards = 1024;
constexpr JsonLimits kIndexLimits = {.bytes = size_t{64} << 20, .depth = 8};

bool has(const Path& directory, std::string_view name) {
  return std::filesystem::is_regular_file(directory / name);
}

bool has_suffix(const Path& directory, std::string_view suffix) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename().string().ends_with(suffix)) return true;
  }
  return false;
}

// A directory without config.json or weights: what is it, and what should be done?
[[noreturn]] void explain(const Path& directory, std::string_view missing) {
  const std::string name = directory.string();
  if (has(directory, "adapter_config.json")) {
    fail(
        "{}: is an adapter (LoRA), not a model: merge it into its base model with peft's "
        "merge_and_unload() and save_pretrained(), then give that directory",
        name);
  }
  const bool vocabulary =
      has_suffix(directory, "vocabulary.json") || has_suffix(directory, "vocabulary.txt");
  if (has(directory, "model.bin") && vocabulary) {
    fail(
        "{}: is a CTranslate2 model, whose weights cannot be turned back: give the Hugging Face "
        "directory that it was converted from",
        name);
  }
  if (has_suffix(directory, ".gguf")) {
    fail(
        "{}: holds GGUF files, which are not read: give the Hugging Face directory that they "
        "were converted from",
        name);
  }
  if (has(directory, "tf_model.h5") || has(directory, "flax_model.msgpack")) {
    fail(
        "{}: holds TensorFlow or Flax weights only: load them with transformers' from_tf=True or "
        "from_flax=True and save_pretrained(), then give that directory",
        name);
  }
  fail(
      "{}: has no {}: a Hugging Face checkpoint has config.json and model.safetensors or "
      "pytorch_model.bin, or shards with their index",
      name, missing);
}

[[noreturn]] void explain_file(const Path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min<size_t>(bytes.size(), 4));
  check(start != "GGUF", "{}: is a GGUF file, which is not read: give a Hugging Face directory",
        path.string());
  fail("{}: is a file; give the directory that holds config.json and the weights", path.string());
}

StoredTensors open_tensors(const Path& path) {
  const auto file = MappedFile::open(path);
  check_fetched({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()}, path);
  return map_tensors(path,
                     path.extension() == ".safetensors" ? parse_safetensors : parse_torch_zip);
}

// A shard is a file beside its index and nowhere else.
void check_shard_name(const std::string& name, std::string_view what) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  check(plain, "{}: '{}' is not the plain name of a file", what, shown(name));
}

}  // namespace

Checkpoint Checkpoint::open(const Path& directory) {
  check(std::filesystem::exists(directory), "{}: no such directory", directory.string());
  if (!std::filesystem::is_directory(directory)) explain_file(directory);
  Checkpoint checkpoint;
  checkpoint.path_ = directory;
  if (!has(directory, "config.json")) explain(directory, "config.json");
  checkpoint.config_ = checkpoint.read_json("config.json");
  check(checkpoint.config_.value("model_type", Json()) != "nllb-moe",
        "{}: is NLLB's mixture of experts (nllb-moe), which is not read: take a dense one, such as "
        "facebook/nllb-200-3.3B",
        directory.string());
  if (has(directory, "generation_config.json")) {
    checkpoint.generation_config_ = checkpoint.read_json("generation_config.json");
  }
  checkpoint.open_weights();
  std::sort(checkpoint.sources_.begin(), checkpoint.sources_.end(),
            [](const Source& a, const Source& b) { return a.name < b.name; });
  return checkpoint;
}

void Checkpoint::add_source(const std::string& name) {
  sources_.push_back({name, std::filesystem::file_size(path_ / name), path_ / name});
}

Json Checkpoint::read_json(const std::string& name) {
  const std::string what = (path_ / name).string();
  add_source(name);
  Json json = parse_json(read_file(path_ / name, kIndexLimits.bytes), what, kIndexLimits);
  check(json.is_object(), "{}: must be a JSON object", what);
  return json;
}

void Checkpoint::open_weights() {
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string index = std::string(name) + ".index.json";
    if (has(path_, name)) {
      add_source(name);
      tensors_ = open_tensors(path_ / name);
      return;
    }
    if (has(path_, index)) return open_shards(index);
  }
  explain(path_, "weights");
}

void Checkpoint::open_shards(const std::string& index) {
  const std::string what = (path_ / index).string();
  const Json json = read_json(index);
  const auto map = json.find("weight_map");
  check(map != json.end() && map->is_object(), "{}: has no object \"weight_map\"", what);
  check(map->size() <= kMaxTensors, "{}: {} tensors, at most {} are read", what, map->size(),
        kMaxTensors);
  std::map<std::string, StoredTensors> shards;
  size_t stored = 0;
  for (const auto& [name, shard] : map->items()) {
    check(shard.is_string(), "{}: '{}' must name a file", what, shown(name));
    const auto& file = shard.get_ref<const std::string&>();
    check_shard_name(file, what);
    if (!shards.contains(file)) {
      check(shards.size() < kMaxShards, "{}: more than {} shards", what, kMaxShards);
      check(has(path_, file), "{}: names {}, which is not there: is the download complete?", what,
            shown(file));
      add_source(file);
      shards[file] = open_tensors(path_ / file);
      stored += shards[file].size();
      check(stored <= kMaxTensors, "{}: the shards hold more than {} tensors", what, kMaxTensors);
    }
    const auto found = shards[file].find(name);
    check(found != shards[file].end(), "{}: '{}' is not in {}", what, shown(name), shown(file));
    tensors_.emplace(name, found->second);
  }
  for (const auto& [file, tensors] : shards) {
    for (const auto& [name, tensor] : tensors) {
      const StoredTensor* named = find(name);
      if (named != nullptr && named->file != tensor.file) copies_.emplace_back(name, tensor);
    }
  }
}

void Checkpoint::check_copies() const {
  for (const auto& [name, copy] : copies_) {
    const StoredTensor& named = at(name);
    check(same_values(named, copy),
          "{}: '{}' is in {}, which the index names, and with other values in {}: save the "
          "checkpoint again",
          path_.string(), shown(name), named.file->path().filename().string(),
          copy.file->path().filename().string());
  }
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  return found == tensors_.end() ? nullptr : &found->second;
}

const StoredTensor& Checkpoint::at(std::string_view name) const {
  const StoredTensor* stored = find(name);
  NG_CHECK(stored != nullptr, "{} has no tensor '{}'", path_.string(), name);
  return *stored;
}

Tensor Checkpoint::read(std::string_view name) const { return ng::read(at(name)); }

Tensor Checkpoint::read_rows(std::string_view name, int64_t first, int64_t count) const {
  return ng::read_rows(at(name), first, count);
}

}  // namespace ng
