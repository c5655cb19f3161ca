// What is in a bundle, the directory that `compile` writes and every other command opens? The
// format is docs/bundle.md.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "bundle/static_sizes.h"
#include "tensor/tensor.h"

namespace ng {

inline constexpr int64_t kBundleVersion = 4;
inline constexpr std::string_view kTokenizerName = "tokenizer/tokenizer.bin";

// A directory with a manifest.json and a weights.bin, or the evident rest of one (manifest.sha256,
// and it is no checkpoint).
bool is_bundle(const Path& path);

// The first file whose size or hash (of weights.bin the size alone) is not the manifest's, or
// manifest.json if its own is not; none: a whole bundle, or one whose format this build cannot
// read.
std::optional<std::string> damaged_file(const Path& bundle);

class Bundle {
 public:
  struct Facts {  // of the model
    std::string family;
    int64_t vocabulary = 0, pad = 1, decoder_start = 2;
    std::vector<int64_t> eos;
    int64_t parameters = 0;
  };
  struct StoredWeight {
    Type type;
    uint64_t offset = 0, bytes = 0;
    std::string sha256;
  };

  // A module of a static target, so many sentences with so many rows (or tokens) each, or a segment
  // of one: those that follow each other run one after the other.
  struct Module {
    std::string name, phase;
    int64_t sentences = 0, rows = 0;
    std::string part_of;  // the whole one, perhaps itself
    bool cpu = false;     // a graph for the CPU, not HLO
    std::string file() const;
  };

  // Checks the version, the manifest's hash, every file's size and the hash of all but the weights.
  // User error: no bundle, made by another version, damaged.
  static Bundle open(const Path& path);

  const Path& path() const { return path_; }
  const std::string& identity() const { return identity_; }  // SHA-256 of manifest.json
  const Json& manifest() const { return manifest_; }
  const Json& config() const { return manifest_.at("config"); }
  const Json& generation_config() const { return manifest_.at("generation_config"); }  // or null
  const Facts& facts() const { return facts_; }
  const std::set<std::string>& targets() const { return targets_; }
  const std::string& licence() const { return licence_; }
  DType dtype() const { return dtype_; }  // of the matrices

  // Of the static targets: for what sizes their modules are, and which there are.
  const StaticSizes& sizes() const { return sizes_; }
  const std::vector<Module>& modules() const { return modules_; }

  // Where a target's graph, module or program (format.h: graph_file() and so on) lies: its own file
  // if there is one, else `name`.
  std::string file_of(const std::string& name, const std::string& target) const;
  bool has_file(const std::string& name) const { return files_.contains(name); }
  std::string_view file(const std::string& name) const;  // unknown: User
  std::string_view file(const std::string& name, const std::string& target) const {
    return file(file_of(name, target));
  }
  bool has_tokenizer() const { return has_file(std::string(kTokenizerName)); }
  std::string_view tokenizer_bytes() const { return file(std::string(kTokenizerName)); }

  const std::map<std::string, StoredWeight>& weights() const { return weights_; }
  // A view of the mapping; of rank_name() what all ranks share, where none has its own. Unknown:
  // User
  Tensor weight(const std::string& name) const;

  // Reads every byte of the weights. The first tensor (in the file's order) that differs from the
  // manifest is named in a User error.
  void check_weights(Progress& progress) const;

 private:
  using File = std::shared_ptr<const MappedFile>;
  Bundle() = default;
  void read_manifest();
  void read_facts();
  void read_modules();
  void open_files();
  void read_weight(const std::string& name, const Json& row);
  void check_layout() const;
  std::string where(std::string_view name) const { return (path_ / name).string(); }

  Path path_;
  std::string identity_, licence_;
  std::set<std::string> targets_;
  DType dtype_ = DType::f32;
  Json manifest_;
  Facts facts_;
  StaticSizes sizes_;
  std::vector<Module> modules_;
  std::map<std::string, File> files_;
  File weights_file_;
  std::map<std::string, StoredWeight> weights_;
};

// A bundle being made; it appears at `target` with commit(), complete, or not at all.
class BundleWriter {
 public:
  // An existing `target` is refused without `replace`, and with it unless it is a bundle or empty.
  BundleWriter(const Path& target, bool replace);

  void add_file(const std::string& name, std::string_view bytes);  // "graphs/decode.txt"
  // A target's file of that name. The first target's takes the name, and stands for those of others
  // with the same bytes; other bytes get a file of their own.
  void add_file_of(const std::string& target, const std::string& name, std::string_view bytes);
  void begin_tensor(const std::string& name, const Type& type);
  void write(std::span<const std::byte> bytes);  // of that tensor, in row-major order
  // `manifest` is all but what this class knows: schema, version and the tables.
  void commit(Json manifest);

 private:
  void end_tensor();

  DirectoryWriter directory_;
  FileWriter weights_;
  Json files_ = Json::object(), tensors_ = Json::object();
  std::string name_;  // of the tensor that is being written
  uint64_t left_ = 0;
  Sha256 hash_;
};

}  // namespace ng
