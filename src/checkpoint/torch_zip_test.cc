#include "checkpoint/torch_zip.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <test_paths.h>
#include <cstring>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/damage_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::string_literals;

const Path kFixtures = Path(NG_SOURCE_DIR) / "testdata/checkpoint";

std::string fixture(const std::string& name) { return read_file(kFixtures / name, 1 << 20); }

StoredTensors parse(std::string_view bytes) {
  return parse_torch_zip(std::as_bytes(std::span(bytes)), "file");
}

double element(const Tensor& tensor, size_t i) {
  const std::byte* at = tensor.data.data() + i * byte_size(tensor.type.dtype);
  const auto as = [at]<class T>(T value) {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  switch (tensor.type.dtype) {
    case DType::f32: return as(float{});
    case DType::f64: return as(double{});
    case DType::f16: return f16_to_f32(as(uint16_t{}));
    case DType::bf16: return bf16_to_f32(as(uint16_t{}));
    case DType::s8: return as(int8_t{});
    case DType::u8: return as(uint8_t{});
    case DType::s32: return as(int32_t{});
    case DType::s64: return static_cast<double>(as(int64_t{}));
  }
  return 0;
}

// testdata/checkpoint/expected.json: what torch itself read back.
TEST(TorchZip, ReadsWhatTorchSaved) {
  const Json expected = parse_json(fixture("expected.json"), "expected.json");
  ASSERT_EQ(expected.size(), 6U);
  for (const auto& [file, tensors] : expected.items()) {
    const StoredTensors stored = map_tensors(kFixtures / file, parse_torch_zip);
    ASSERT_EQ(stored.size(), tensors.size()) << file;
    for (const auto& [name, wanted] : tensors.items()) {
      const Tensor tensor = read(stored.at(name));
      EXPECT_EQ(ng::name(tensor.type.dtype), wanted.at("dtype")) << file << " " << name;
      ASSERT_EQ(tensor.type.shape.size(), wanted.at("shape").size()) << file << " " << name;
      for (size_t i = 0; i < tensor.type.shape.size(); ++i) {
        EXPECT_EQ(tensor.type.shape[i].size, wanted.at("shape")[i]) << file << " " << name;
      }
      for (size_t i = 0; i < wanted.at("values").size(); ++i) {
        EXPECT_EQ(element(tensor, i), wanted.at("values")[i]) << file << " " << name << " " << i;
      }
    }
  }
}

TEST(TorchZip, TiedTensorsAreOnePlace) {
  const StoredTensors stored = map_tensors(kFixtures / "tied.bin", parse_torch_zip);
  EXPECT_EQ(stored.at("shared.weight").offset, stored.at("lm_head.weight").offset);
  EXPECT_TRUE(same_values(stored.at("shared.weight"), stored.at("encoder.weight")));
  EXPECT_FALSE(stored.at("shared.weight").offset == stored.at("norm.weight").offset);
}

TEST(TorchZip, OpensShardsByTheirIndex) {
  const Checkpoint checkpoint = Checkpoint::open(kFixtures / "sharded");
  EXPECT_EQ(checkpoint.tensors().size(), 4U);
  EXPECT_TRUE(same_values(*checkpoint.find("shared.weight"), *checkpoint.find("lm_head.weight")));
  EXPECT_NE(checkpoint.find("shared.weight")->file, checkpoint.find("lm_head.weight")->file);
}

TEST(TorchZip, RefusesRealFilesByWhatIsWrong) {
  const auto refused = [](const char* name) {
    return refusal([&] { map_tensors(kFixtures / name, parse_torch_zip); });
  };
  EXPECT_THAT(refused("bad_os_system.bin"), HasSubstr("asks for 'posix.system'"));
  EXPECT_THAT(refused("bad_eval.bin"), HasSubstr("asks for '__builtin__.eval'"));
  EXPECT_THAT(refused("bad_builtins_getattr.bin"), HasSubstr("asks for '__builtin__.getattr'"));
  EXPECT_THAT(refused("bad_int16.bin"), HasSubstr("asks for 'torch.ShortStorage'"));
  EXPECT_THAT(refused("bad_sparse.bin"), HasSubstr("_rebuild_sparse_tensor"));
  EXPECT_THAT(refused("bad_list.bin"), HasSubstr("no dict of tensors"));
  EXPECT_THAT(refused("bad_number.bin"), HasSubstr("'a' is not a tensor"));
  EXPECT_THAT(refused("bad_expanded.bin"), HasSubstr("more elements than its storage"));
  EXPECT_THAT(refused("bad_legacy.bin"), HasSubstr("torch before 1.6"));
  EXPECT_THAT(refused("bad_protocol4.bin"), HasSubstr("protocol 2"));
  EXPECT_THAT(refused("bad_deflated.bin"), HasSubstr("compressed"));
}

// A zip made field by field, so that each can lie. Bytes lie at their places; the rest is a hole.
struct Zip {
  struct Record {
    std::string name, data;
    uint64_t hole = 0;  // bytes of zeros after `data`
    std::string local_name = "";
    uint16_t flags = 0, method = 0;
    int64_t header_shift = 0;
  };
  std::vector<Record> records;
  bool zip64 = false;
  uint32_t disks = 0;
  int64_t directory_shift = 0;
  std::map<uint64_t, std::string> parts = {};
  uint64_t end = 0;

  static std::string number(uint64_t value, size_t bytes) {
    std::string text;
    for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  }
  void put(const std::string& bytes) {
    parts[end] = bytes;
    end += bytes.size();
  }
  Zip& build() {
    std::string directory;
    for (const Record& record : records) {
      const std::string& local = record.local_name.empty() ? record.name : record.local_name;
      const uint64_t at = end + static_cast<uint64_t>(record.header_shift);
      put("PK\3\4" + std::string(22, '\0') + number(local.size(), 2) + number(5, 2) + local +
          "FB\1\0Z"s + record.data);
      const uint64_t size = record.data.size() + record.hole;
      end += record.hole;
      const std::string extra =
          "\7\0\1\0x"s +
          (zip64 ? "\1\0\x18\0"s + number(size, 8) + number(size, 8) + number(at, 8) : "");
      const auto field = [&](uint64_t value) { return number(zip64 ? 0xFFFFFFFF : value, 4); };
      directory += "PK\1\2\0\0\0\0"s + number(record.flags, 2) + number(record.method, 2) +
                   std::string(8, '\0') + field(size) + field(size) +
                   number(record.name.size(), 2) + number(extra.size(), 2) + std::string(10, '\0') +
                   field(at) + record.name + extra;
    }
    return put_end(directory);
  }
  Zip& put_end(const std::string& directory) {
    const uint64_t at = end + static_cast<uint64_t>(directory_shift);
    put(directory);
    const uint64_t end64 = end;
    if (zip64) {
      put("PK\6\6" + number(44, 8) + "\0\0\0\0"s + number(disks, 4) + number(disks, 4) +
          number(records.size(), 8) + number(records.size(), 8) + number(directory.size(), 8) +
          number(at, 8));
      put("PK\6\7\0\0\0\0"s + number(end64, 8) + "\1\0\0\0"s);
    }
    put("PK\5\6"s + number(disks, 4) + number(zip64 ? 0xFFFF : records.size(), 2) +
        number(zip64 ? 0xFFFF : records.size(), 2) +
        number(zip64 ? 0xFFFFFFFF : directory.size(), 4) + number(zip64 ? 0xFFFFFFFF : at, 4) +
        "\0\0"s);
    return *this;
  }
  std::string bytes() const {
    std::string all(end, '\0');
    for (const auto& [at, part] : parts) all.replace(at, part.size(), part);
    return all;
  }
};

std::string text(std::string_view value) {
  return "X" + Zip::number(value.size(), 4) + std::string(value);
}
std::string integer(int64_t value) {
  return "\x8a\x08" + Zip::number(static_cast<uint64_t>(value), 8);
}
std::string tuple(const std::vector<int64_t>& values) {
  std::string all = "(";
  for (int64_t value : values) all += integer(value);
  return all + "t";
}

struct Case {
  int64_t numel = 6, offset = 0;
  std::vector<int64_t> size = {2, 3}, stride = {3, 1};
  std::string key = "0";
};

// {"a": a float tensor}
std::string pickle(const Case& of) {
  return "\x80\2}" + text("a") + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
         "ctorch\nFloatStorage\n" + text(of.key) + text("cpu") + integer(of.numel) + "tQ" +
         integer(of.offset) + tuple(of.size) + tuple(of.stride) + "\x89}tRs.";
}

Zip zip_of(const Case& tensor, size_t storage_bytes = 24) {
  return Zip{{{"m/data.pkl", pickle(tensor)}, {"m/data/0", std::string(storage_bytes, '\1')}}};
}

std::string refused(const std::string& bytes) {
  return refusal([&] { parse(bytes); });
}
std::string refused(Zip zip) { return refused(zip.build().bytes()); }

TEST(TorchZip, ChecksTensorsAgainstTheirStorage) {
  const auto with = [](const Case& tensor) { return refused(zip_of(tensor)); };
  EXPECT_EQ(parse(zip_of({}).build().bytes()).at("a").strides.size(), 0U);
  EXPECT_THAT(parse(zip_of({.stride = {1, 2}}).build().bytes()).at("a").strides, ElementsAre(1, 2));
  EXPECT_EQ(
      parse(zip_of({.size = {6, 1}, .stride = {1, 9}}).build().bytes()).at("a").strides.size(), 0U);
  EXPECT_EQ(parse(zip_of({.offset = 99, .size = {0, 3}}).build().bytes()).size(), 1U);
  EXPECT_THAT(with({.numel = 7}), HasSubstr("7 elements in a record of 24 bytes"));
  EXPECT_THAT(with({.numel = int64_t{1} << 62}), HasSubstr("in a record of 24 bytes"));
  EXPECT_THAT(with({.offset = 1}), HasSubstr("reaches element 6 of a storage of 6"));
  EXPECT_THAT(with({.stride = {4, 1}}), HasSubstr("reaches element 6"));
  EXPECT_THAT(with({.stride = {3, -1}}), HasSubstr("impossible strides"));
  EXPECT_THAT(with({.stride = {INT64_MAX, INT64_MAX}}), HasSubstr("impossible strides"));
  EXPECT_THAT(with({.offset = INT64_MAX}), HasSubstr("impossible strides"));
  EXPECT_THAT(with({.size = {7, 1}, .stride = {0, 0}}), HasSubstr("more elements than"));
  EXPECT_THAT(with({.size = {INT64_MAX, 3}}), HasSubstr("impossible size"));
  EXPECT_THAT(with({.size = {0, INT64_MAX}}), HasSubstr("impossible size"));
  EXPECT_THAT(with({.size = {-2, -3}}), HasSubstr("impossible size"));
  EXPECT_THAT(with({.key = "1"}), HasSubstr("the storage '1' of 'a' is not there"));
  EXPECT_THAT(with({.key = "../data.pkl"}), HasSubstr("is not there"));
  EXPECT_THAT(refused(zip_of({}, 23)), HasSubstr("in a record of 23 bytes"));
}

TEST(TorchZip, RefusesArchivesThatTorchDoesNotWrite) {
  const auto with = [](auto change) {
    Zip zip = zip_of({});
    change(zip);
    return refused(zip);
  };
  EXPECT_THAT(with([](Zip& zip) { zip.records[1].flags = 1; }), HasSubstr("encrypted"));
  EXPECT_THAT(with([](Zip& zip) { zip.records[1].method = 8; }), HasSubstr("compressed"));
  EXPECT_THAT(with([](Zip& zip) { zip.disks = 1; }), HasSubstr("several files"));
  EXPECT_THAT(with([](Zip& zip) { zip.records.push_back(zip.records[1]); }), HasSubstr("twice"));
  EXPECT_THAT(with([](Zip& zip) { zip.records[1].local_name = "m/data/1"; }),
              HasSubstr("two names"));
  EXPECT_THAT(with([](Zip& zip) { zip.records[1].header_shift = 4; }),
              HasSubstr("without a header"));
  EXPECT_THAT(with([](Zip& zip) { zip.records[1].header_shift = -1000; }),
              HasSubstr("out of range"));
  EXPECT_THAT(with([](Zip& zip) { zip.directory_shift = 9; }), HasSubstr("no central directory"));
  EXPECT_THAT(with([](Zip& zip) { zip.directory_shift = -9; }), HasSubstr("an entry is cut"));
  EXPECT_THAT(with([](Zip& zip) { zip.records[0].name = "m/data.txt"; }), HasSubstr("0 data.pkl"));
  EXPECT_THAT(with([](Zip& zip) {
                zip.records.push_back({"n/data.pkl", "x"});
              }),
              HasSubstr("2 data.pkl"));
  EXPECT_THAT(with([](Zip& zip) {
                zip.records.push_back({"m/byteorder", "big"});
              }),
              HasSubstr("not little endian"));
  Zip decoy = zip_of({});
  decoy.records[1].data = "PK\5\6" + std::string(20, '\0');
  EXPECT_EQ(parse(decoy.build().bytes()).size(), 1U) << "an end record inside the data is data";
}

TEST(TorchZip, RefusesRecordsOverOneAnother) {
  Zip zip = zip_of({});
  zip.records[1].data += "PK\3\4" + std::string(22, '\0') + Zip::number(8, 2) + "\0\0m/data/2"s;
  zip.records.push_back({"m/data/2", "", 0, "", 0, 0, 0});
  zip.records[2].header_shift = -38;  // into the data of the record before
  EXPECT_THAT(refused(zip), HasSubstr("over one another"));
}

TEST(TorchZip, RefusesOtherFiles) {
  EXPECT_THAT(refused(""s), HasSubstr("not a torch file"));
  EXPECT_THAT(refused("<!DOCTYPE html>"s), HasSubstr("not a torch file"));
  EXPECT_THAT(refused("PK"s), HasSubstr("too short"));
  EXPECT_THAT(refused("PK" + std::string(70'000, '\0')), HasSubstr("is the download complete?"));
  const TemporaryDirectory directory;
  put_file(directory.path / "config.json", "{}");
  put_file(directory.path / "pytorch_model.bin", "version https://git-lfs.github.com/spec/v1\noid");
  EXPECT_THAT(refusal([&] { Checkpoint::open(directory.path); }), HasSubstr("run git lfs pull"));
}

// Offsets and sizes beyond 4 GiB stand in zip64 fields. The file is nearly all hole.
TEST(TorchZip, ReadsBeyondFourGigabytes) {
  constexpr uint64_t kHole = uint64_t{5} << 30;
  const int64_t numel = static_cast<int64_t>(kHole / 4) + 2;
  Zip zip{
      {{"m/data/0", "begins__", kHole},
       {"m/data/1", std::string(24, '\2')},
       {"m/data.pkl", pickle({.numel = numel, .offset = numel - 1, .size = {1}, .stride = {1}})}}};
  zip.zip64 = true;
  zip.build();
  const TemporaryDirectory directory;
  const Path path = directory.path / "pytorch_model.bin";
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  for (const auto& [at, part] : zip.parts) {
    ASSERT_EQ(::pwrite(fd, part.data(), part.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(part.size()));
  }
  ::close(fd);
  const auto file = MappedFile::open(path);
  const auto records = parse_zip(file->bytes(), "file");
  EXPECT_EQ(records.at("m/data/0").size, kHole + 8);
  EXPECT_GT(records.at("m/data/1").offset, kHole);
  EXPECT_EQ(records.at("m/data/1").size, 24U);
  EXPECT_EQ(file->bytes()[records.at("m/data/1").offset], std::byte{2});
  EXPECT_EQ(map_tensors(path, parse_torch_zip).at("a").offset,
            records.at("m/data/0").offset + kHole + 4);
}

TEST(TorchZip, SurvivesDamage) {
  const auto read_all = [](std::span<const std::byte> bytes) {
    for (const auto& [name, stored] : parse_torch_zip(bytes, "file")) {
      uint64_t last = 0;
      for (size_t i = 0; i < stored.strides.size(); ++i) {
        last += static_cast<uint64_t>(stored.strides[i] * (stored.type.shape[i].size - 1));
      }
      const auto item = byte_size(stored.type.dtype);
      const auto size = static_cast<uint64_t>(byte_count(stored.type));
      const uint64_t end = stored.offset + (stored.strides.empty() ? size : (last + 1) * item);
      ASSERT_TRUE(end <= bytes.size()) << name;
    }
  };
  for (const char* name : {"dtypes.bin", "strided.bin", "tied.bin", "wrapped_model.bin"}) {
    expect_survives(fixture(name), 10'000, read_all);
  }
  Zip zip = zip_of({});
  zip.zip64 = true;
  expect_survives(zip.build().bytes(), 20'000, read_all);
}

}  // namespace
}  // namespace ng
