// How does a bundle come to be on the disk?
#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle/format.h"

namespace ng {
namespace {

const Path& replaceable(const Path& target, bool replace) {
  const bool harmless =
      !replace || !std::filesystem::exists(target) || is_bundle(target) ||
      (std::filesystem::is_directory(target) && std::filesystem::is_empty(target));
  check(harmless, "{}: is no bundle, so --force does not replace it; choose another name",
        target.string());
  return target;
}

}  // namespace

BundleWriter::BundleWriter(const Path& target, bool replace)
    : directory_(replaceable(target, replace), replace),
      weights_(directory_.path() / kWeightsName) {}

void BundleWriter::add_file(const std::string& name, std::string_view bytes) {
  std::filesystem::create_directories((directory_.path() / name).parent_path());
  write_file(directory_.path() / name, bytes);
  files_[name] = {{"bytes", bytes.size()}, {"sha256", sha256(bytes)}};
}

void BundleWriter::add_file_of(const std::string& target, const std::string& name,
                               std::string_view bytes) {
  const auto first = files_.find(name);
  if (first == files_.end()) return add_file(name, bytes);
  if (first->at("sha256") != sha256(bytes)) add_file(own_file(name, target), bytes);
}

void BundleWriter::begin_tensor(const std::string& name, const Type& type) {
  end_tensor();
  NG_CHECK(!tensors_.contains(name), "tensor {} is written twice", name);
  weights_.pad_to(kWeightAlignment);
  Json shape = Json::array();
  for (const Dim& dim : type.shape) shape.push_back(dim.size);
  name_ = name;
  left_ = static_cast<uint64_t>(byte_count(type));
  tensors_[name] = {{"bytes", left_},
                    {"dtype", ng::name(type.dtype)},
                    {"offset", weights_.size()},
                    {"shape", std::move(shape)}};
}

void BundleWriter::write(std::span<const std::byte> bytes) {
  NG_CHECK(bytes.size() <= left_, "{}: {} bytes for the last {}", name_, bytes.size(), left_);
  left_ -= bytes.size();
  hash_.update(bytes);
  weights_.write(bytes);
}

void BundleWriter::end_tensor() {
  if (name_.empty()) return;
  NG_CHECK(left_ == 0, "{} lacks {} bytes", name_, left_);
  tensors_[name_]["sha256"] = hash_.finish();
  name_.clear();
}

void BundleWriter::commit(Json manifest) {
  end_tensor();
  weights_.close();
  manifest["schema"] = kSchema;
  manifest["version"] = kBundleVersion;
  manifest["weights"] = {{"bytes", weights_.size()}};
  manifest["files"] = std::move(files_);
  manifest["tensors"] = std::move(tensors_);
  const std::string text = manifest.dump(2) + "\n";
  write_file(directory_.path() / kManifestName, text);
  write_file(directory_.path() / kHashName, hash_line(sha256(text)));
  directory_.commit();
}

}  // namespace ng
