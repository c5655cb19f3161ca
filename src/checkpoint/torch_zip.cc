#include "checkpoint/torch_zip.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/pickle.h"

namespace ng {
namespace {

constexpr uint64_t kMaxPickle = uint64_t{64} << 20;
constexpr uint64_t kMaxRecords = kMaxTensors + 64;  // storages, and the few files beside them

// Little-endian numbers at checked places.
class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  uint64_t size() const { return bytes_.size(); }
  std::string_view text(uint64_t at, uint64_t count) const {
    check(at <= bytes_.size() && count <= bytes_.size() - at,
          "{}: a damaged zip: byte {} is past its end", what_, at);
    return {reinterpret_cast<const char*>(bytes_.data()) + at, count};
  }
  uint64_t number(uint64_t at, size_t count) const {
    uint64_t value = 0;
    const std::string_view part = text(at, count);
    for (size_t i = 0; i < count; ++i) {
      value |= static_cast<uint64_t>(static_cast<uint8_t>(part[i])) << (8 * i);
    }
    return value;
  }
  bool has(uint64_t at, std::string_view signature) const {
    return at <= bytes_.size() && signature.size() <= bytes_.size() - at &&
           text(at, signature.size()) == signature;
  }
  void expect(bool holds, std::string_view rule) const {
    check(holds, "{}: a zip that torch did not write or that is damaged: {}", what_, rule);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view what_;
};

struct Directory {
  uint64_t begin, end, records;
};

constexpr uint64_t kEndSize = 22, kLocatorSize = 20;

// The end record is the last thing in the file, but for a comment of at most 65,535 bytes.
uint64_t find_end(const Bytes& zip) {
  zip.expect(zip.size() >= kEndSize, "too short");
  const uint64_t last = zip.size() - kEndSize;
  for (uint64_t at = last; at + 0xFFFF >= last; --at) {
    if (zip.has(at, "PK\5\6") && zip.number(at + 20, 2) == last - at) return at;
    if (at == 0) break;
  }
  zip.expect(false, "no end record: is the download complete?");
  return 0;
}

Directory find_directory(const Bytes& zip) {
  uint64_t end = find_end(zip);
  Directory directory{zip.number(end + 16, 4), 0, zip.number(end + 10, 2)};
  uint64_t size = zip.number(end + 12, 4);
  uint64_t disks = zip.number(end + 4, 2) | zip.number(end + 6, 2);
  if (end >= kLocatorSize && zip.has(end - kLocatorSize, "PK\6\7")) {
    const uint64_t end64 = zip.number(end - kLocatorSize + 8, 8);
    zip.expect(zip.has(end64, "PK\6\6") && end64 <= end - kLocatorSize, "no zip64 end record");
    disks = zip.number(end64 + 16, 4) | zip.number(end64 + 20, 4);
    directory.records = zip.number(end64 + 32, 8);
    size = zip.number(end64 + 40, 8);
    directory.begin = zip.number(end64 + 48, 8);
    end = end64;
  }
  zip.expect(disks == 0, "split over several files");
  zip.expect(directory.begin <= end && size <= end - directory.begin, "no central directory");
  zip.expect(directory.records <= kMaxRecords, "more than 100,000 records");
  directory.end = directory.begin + size;
  return directory;
}

struct Entry {
  std::string_view name;
  uint64_t size, packed_size, header;
};

// Numbers too large for 32 bits stand in the extra field 0x0001, in this order.
void read_zip64(const Bytes& zip, std::string_view extra, Entry& entry) {
  const Bytes fields(std::as_bytes(std::span(extra)), "extra field");
  for (uint64_t at = 0; at + 4 <= extra.size();) {
    const uint64_t end = at + 4 + fields.number(at + 2, 2);
    zip.expect(end <= extra.size(), "an extra field is cut");
    const bool zip64 = fields.number(at, 2) == 1;
    at += 4;
    for (uint64_t* value : {&entry.size, &entry.packed_size, &entry.header}) {
      if (!zip64 || *value != 0xFFFFFFFF) continue;
      zip.expect(at + 8 <= end, "a zip64 field is cut");
      *value = fields.number(at, 8);
      at += 8;
    }
    at = end;
  }
}

// Reads the entry at `at` and moves on to the next.
Entry read_entry(const Bytes& zip, uint64_t& at, uint64_t end) {
  zip.expect(zip.has(at, "PK\1\2") && at + 46 <= end, "an entry is cut");
  const uint64_t flags = zip.number(at + 8, 2);
  const uint64_t name = zip.number(at + 28, 2), extra = zip.number(at + 30, 2);
  Entry entry{zip.text(at + 46, name), zip.number(at + 24, 4), zip.number(at + 20, 4),
              zip.number(at + 42, 4)};
  zip.expect((flags & 0x2041) == 0, "encrypted");
  zip.expect(zip.number(at + 10, 2) == 0, "compressed; torch stores its records as they are");
  read_zip64(zip, zip.text(at + 46 + name, extra), entry);
  zip.expect(entry.size == entry.packed_size, "a stored record has two sizes");
  at += 46 + name + extra + zip.number(at + 32, 2);
  zip.expect(at <= end, "an entry is cut");
  return entry;
}

// The sizes in local headers may be zero (they follow the data): only the lengths of the name and
// of the extra field are taken from there.
ZipRecord find_data(const Bytes& zip, const Entry& entry, uint64_t limit) {
  zip.expect(entry.header <= limit && limit - entry.header >= 30, "a record is out of range");
  zip.expect(zip.has(entry.header, "PK\3\4"), "a record without a header");
  const uint64_t name = zip.number(entry.header + 26, 2);
  const uint64_t start = entry.header + 30 + name + zip.number(entry.header + 28, 2);
  zip.expect(start <= limit && entry.size <= limit - start, "a record is out of range");
  zip.expect(zip.text(entry.header + 30, name) == entry.name, "a record has two names");
  return {start, entry.size};
}

// Row-major strides of `size`: what contiguous tensors have, up to dimensions of 1.
bool is_contiguous(const PickledTensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.size.size(); i-- > 0;) {
    if (tensor.size[i] != 1 && tensor.stride[i] != expected) return false;
    expected *= tensor.size[i];
  }
  return true;
}

// Checks the tensor against its storage; `storage` lies where the zip says.
StoredTensor place(const PickledTensor& tensor, const ZipRecord& storage, std::string_view what,
                   std::string_view name) {
  StoredTensor stored;
  stored.type.dtype = tensor.dtype;
  for (int64_t size : tensor.size) stored.type.shape.emplace_back(size);
  const uint64_t item = byte_size(tensor.dtype);
  const uint64_t bytes = checked_byte_count(stored.type, what, name);
  check(storage.size % item == 0 && storage.size / item == static_cast<uint64_t>(tensor.numel),
        "{}: '{}' has a storage of {} elements in a record of {} bytes", what, shown(name),
        tensor.numel, storage.size);
  check(bytes <= storage.size, "{}: '{}' has more elements than its storage", what, shown(name));
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.size.size(); ++i) {
    int64_t reach = 0;
    const int64_t steps = std::max<int64_t>(tensor.size[i] - 1, 0);
    const bool fits = tensor.stride[i] >= 0 &&
                      !__builtin_mul_overflow(steps, tensor.stride[i], &reach) &&
                      !__builtin_add_overflow(last, reach, &last);
    check(fits, "{}: '{}' has impossible strides", what, shown(name));
  }
  if (bytes == 0) return stored;
  check(last < tensor.numel, "{}: '{}' reaches element {} of a storage of {}", what, shown(name),
        last, tensor.numel);
  stored.offset = storage.offset + static_cast<uint64_t>(tensor.offset) * item;
  if (!is_contiguous(tensor)) stored.strides = tensor.stride;
  return stored;
}

constexpr std::string_view kLegacy = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

}  // namespace

std::map<std::string, ZipRecord> parse_zip(std::span<const std::byte> bytes,
                                           std::string_view what) {
  const Bytes zip(bytes, what);
  const Directory directory = find_directory(zip);
  std::map<std::string, ZipRecord> records;
  std::vector<std::pair<uint64_t, uint64_t>> extents;  // header's begin, data's end
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.records; ++i) {
    const Entry entry = read_entry(zip, at, directory.end);
    const ZipRecord record = find_data(zip, entry, directory.begin);
    const bool added = records.emplace(entry.name, record).second;
    check(added, "{}: the record '{}' stands twice", what, shown(entry.name));
    extents.emplace_back(entry.header, record.offset + record.size);
  }
  std::sort(extents.begin(), extents.end());
  for (size_t i = 1; i < extents.size(); ++i) {
    zip.expect(extents[i].first >= extents[i - 1].second, "records lie over one another");
  }
  return records;
}

StoredTensors parse_torch_zip(std::span<const std::byte> bytes, std::string_view what) {
  const Bytes file(bytes, what);
  check(!file.has(0, kLegacy),
        "{}: is in the format of torch before 1.6, which is not read: load it with torch.load and "
        "write it with torch.save of a newer torch, or convert it to safetensors",
        what);
  check(file.has(0, "PK"),
        "{}: is not a torch file, it does not begin as a zip does: give what torch.save of torch "
        "1.6 or newer wrote, or safetensors",
        what);
  const auto records = parse_zip(bytes, what);

  constexpr std::string_view kPickle = "/data.pkl";
  std::vector<std::string> folders;
  for (const auto& [name, record] : records) {
    if (name.ends_with(kPickle)) folders.push_back(name.substr(0, name.size() - kPickle.size()));
  }
  check(folders.size() == 1, "{}: holds {} data.pkl, a file of weights has one", what,
        folders.size());
  const auto order = records.find(folders[0] + "/byteorder");
  check(order == records.end() || file.text(order->second.offset, order->second.size) == "little",
        "{}: is not little endian: write it on a machine that is", what);
  const ZipRecord pickle = records.at(folders[0] + std::string(kPickle));
  check(pickle.size <= kMaxPickle, "{}: data.pkl has {} bytes, at most {} are read", what,
        pickle.size, kMaxPickle);

  StoredTensors tensors;
  for (const auto& [name, tensor] : parse_pickle(bytes.subspan(pickle.offset, pickle.size), what)) {
    const auto storage = records.find(folders[0] + "/data/" + tensor.storage);
    check(storage != records.end(), "{}: the storage '{}' of '{}' is not there", what,
          shown(tensor.storage), shown(name));
    tensors.emplace(name, place(tensor, storage->second, what, name));
  }
  return tensors;
}

}  // namespace ng
