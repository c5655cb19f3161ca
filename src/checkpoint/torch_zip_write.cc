// What does torch.save write? The counterpart of torch_zip.cc and pickle.cc.
#include <array>
#include <map>

#include "base/error.h"
#include "checkpoint/write_weights.h"

namespace ng {
namespace {

std::string little_endian(uint64_t value, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

// CRC-32 (ISO 3309), as zip wants it.
class Crc {
 public:
  void update(std::span<const std::byte> bytes) {
    for (std::byte byte : bytes)
      state_ = kTable[(state_ ^ static_cast<uint8_t>(byte)) & 0xFF] ^ (state_ >> 8);
  }
  uint32_t value() const { return ~state_; }

 private:
  static constexpr std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) {
        table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0xEDB88320U : 0);
      }
    }
    return table;
  }();
  uint32_t state_ = 0xFFFFFFFF;
};

// A zip of stored records. Sizes and checksums follow the data (they stand in the central
// directory too, which is what readers go by).
class ZipWriter {
 public:
  explicit ZipWriter(const Path& path) : file_(path) {}

  void record(const std::string& name, const std::function<void(const PutBytes&)>& fill) {
    constexpr uint64_t kAlignment = 64, kHeader = 30, kField = 4;
    const uint64_t offset = file_.size();
    const uint64_t start = offset + kHeader + name.size() + kField;
    const uint64_t padding = (kAlignment - start % kAlignment) % kAlignment;
    file_.write("PK\3\4" + little_endian(kVersion, 2) + little_endian(kFlags, 2) +
                std::string(18, '\0') + little_endian(name.size(), 2) +
                little_endian(kField + padding, 2) + name + "FB" + little_endian(padding, 2) +
                std::string(padding, 'Z'));
    const uint64_t data = file_.size();
    Crc crc;
    fill([&](std::span<const std::byte> bytes) {
      crc.update(bytes);
      file_.write(bytes);
    });
    const uint64_t size = file_.size() - data;
    file_.write("PK\7\10" + little_endian(crc.value(), 4) + little_endian(size, 8) +
                little_endian(size, 8));
    add_entry(name, crc.value(), size, offset);
  }
  void record(const std::string& name, std::string_view text) {
    record(name, [&](const PutBytes& put) { put(std::as_bytes(std::span(text))); });
  }

  void finish() {
    const uint64_t begin = file_.size();
    file_.write(directory_);
    const uint64_t end = file_.size();
    file_.write("PK\6\6" + little_endian(44, 8) + little_endian(kVersion, 2) +
                little_endian(kVersion, 2) + std::string(8, '\0') + little_endian(entries_, 8) +
                little_endian(entries_, 8) + little_endian(end - begin, 8) +
                little_endian(begin, 8));
    file_.write("PK\6\7" + std::string(4, '\0') + little_endian(end, 8) + little_endian(1, 4));
    file_.write("PK\5\6" + std::string(4, '\0') + std::string(12, '\xFF') + std::string(2, '\0'));
    file_.close();
  }

 private:
  static constexpr uint64_t kVersion = 45, kFlags = 0x0808;  // zip64; UTF-8, sizes follow the data

  void add_entry(const std::string& name, uint32_t crc, uint64_t size, uint64_t offset) {
    constexpr uint64_t kLarge = 0xFFFFFFFF;
    std::string large;
    if (size >= kLarge) large += little_endian(size, 8) + little_endian(size, 8);
    if (offset >= kLarge) large += little_endian(offset, 8);
    if (!large.empty()) large = little_endian(1, 2) + little_endian(large.size(), 2) + large;
    const uint64_t short_size = std::min(size, kLarge);
    directory_ += "PK\1\2" + little_endian(kVersion, 2) + little_endian(kVersion, 2) +
                  little_endian(kFlags, 2) + std::string(6, '\0') + little_endian(crc, 4) +
                  little_endian(short_size, 4) + little_endian(short_size, 4) +
                  little_endian(name.size(), 2) + little_endian(large.size(), 2) +
                  std::string(10, '\0') + little_endian(std::min(offset, kLarge), 4) + name + large;
    ++entries_;
  }

  FileWriter file_;
  std::string directory_;
  uint64_t entries_ = 0;
};

std::string pickled(const std::string& text) {  // BINUNICODE
  return "X" + little_endian(text.size(), 4) + text;
}
std::string pickled(int64_t value) {  // LONG1 where BININT is too short
  return value <= INT32_MAX ? "J" + little_endian(static_cast<uint64_t>(value), 4)
                            : "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8);
}
std::string pickled(const std::vector<int64_t>& values) {  // MARK … TUPLE
  std::string text = "(";
  for (int64_t value : values) text += pickled(value);
  return text + "t";
}

std::string_view storage_class(DType dtype) {
  switch (dtype) {
    case DType::f32: return "FloatStorage";
    case DType::f16: return "HalfStorage";
    case DType::bf16: return "BFloat16Storage";
    case DType::f64: return "DoubleStorage";
    case DType::s8: return "CharStorage";
    case DType::u8: return "ByteStorage";
    case DType::s32: return "IntStorage";
    case DType::s64: return "LongStorage";
  }
  return "";
}

// torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())
std::string pickled(const Weight& weight, size_t storage) {
  std::vector<int64_t> size, stride(weight.type.shape.size(), 1);
  for (const Dim& dim : weight.type.shape) size.push_back(dim.size);
  for (size_t i = size.size(); i-- > 1;) stride[i - 1] = stride[i] * size[i];
  return fmt::format(
      "ctorch._utils\n_rebuild_tensor_v2\n(({}ctorch\n{}\n{}{}{}tQ{}{}{}{}ccollections"
      "\nOrderedDict\n)RtR",
      pickled("storage"), storage_class(weight.type.dtype), pickled(std::to_string(storage)),
      pickled("cpu"), pickled(element_count(weight.type.shape)), pickled(int64_t{0}), pickled(size),
      pickled(stride), "\x89");
}

}  // namespace

void write_torch_zip(const Path& path, std::span<const Weight> weights, const FillWeight& fill) {
  const std::string folder = path.stem().string();
  std::map<std::string, size_t> storages;  // by values
  std::vector<const Weight*> stored;
  std::string pickle = "\x80\2ccollections\nOrderedDict\n)R(";
  for (const Weight& weight : weights) {
    const auto [at, added] = storages.emplace(weight.values, stored.size());
    if (added) stored.push_back(&weight);
    pickle += pickled(weight.name) + pickled(weight, at->second);
  }
  ZipWriter zip(path);
  zip.record(folder + "/data.pkl", pickle + "u.");
  zip.record(folder + "/byteorder", "little");
  for (size_t i = 0; i < stored.size(); ++i) {
    zip.record(fmt::format("{}/data/{}", folder, i),
               [&](const PutBytes& put) { fill(*stored[i], put); });
  }
  zip.record(folder + "/version", "3\n");
  zip.finish();
}

}  // namespace ng
