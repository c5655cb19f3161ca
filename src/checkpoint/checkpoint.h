// What does a Hugging Face checkpoint directory hold?
#pragma once

#include "base/json.h"
#include "checkpoint/stored_tensor.h"

namespace ng {

// config.json, generation_config.json and every tensor's place; no tensor is read. Weights are
// looked for as transformers does: model.safetensors, its index, pytorch_model.bin, its index.
class Checkpoint {
 public:
  struct Source {  // a file that was read
    std::string name;
    uint64_t size;
    Path path;
  };

  // User error when anything is missing, inconsistent or of another kind (an adapter, GGUF,
  // CTranslate2, TensorFlow…); the message says what it is and what to do.
  static Checkpoint open(const Path& directory);

  const Path& path() const { return path_; }
  const Json& config() const { return config_; }
  const Json& generation_config() const { return generation_config_; }  // {} when absent
  const StoredTensors& tensors() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;  // nullptr when absent

  // See stored_tensor.h. `name` must be there.
  Tensor read(std::string_view name) const;
  Tensor read_rows(std::string_view name, int64_t first, int64_t count) const;

  // User unless tensors that other shards hold too, beside the one that the index names, have the
  // same values there. Reads them whole.
  void check_copies() const;

  // config.json, generation_config.json, the index and the weight files, sorted by name.
  const std::vector<Source>& sources() const { return sources_; }

 private:
  const StoredTensor& at(std::string_view name) const;
  Json read_json(const std::string& name);
  void add_source(const std::string& name);
  void open_weights();
  void open_shards(const std::string& index);

  Path path_;
  Json config_, generation_config_ = Json::object();
  StoredTensors tensors_;
  std::vector<std::pair<std::string, StoredTensor>> copies_;  // in shards the index does not name
  std::vector<Source> sources_;
};

}  // namespace ng
