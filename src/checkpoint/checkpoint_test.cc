#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>

#include "checkpoint/damage_for_test.h"
#include "checkpoint/safetensors_for_test.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor floats(std::vector<float> values) {
  return Tensor::of<float>(DType::f32, {static_cast<int64_t>(values.size())}, values);
}

std::vector<float> values(const Tensor& tensor) {
  std::vector<float> out(tensor.data.size() / sizeof(float));
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

struct Directory : TemporaryDirectory {
  void put(const char* name, std::string_view text) const { put_file(path / name, text); }
  std::string refused() const {
    return refusal([&] { Checkpoint::open(path); });
  }
};

TEST(Checkpoint, OpensOneSafetensorsFile) {
  const Directory directory;
  directory.put("config.json", R"({"model_type":"m2m_100"})");
  write_safetensors(directory.path / "model.safetensors", {{"a", floats({1, 2, 3})}});
  const Checkpoint checkpoint = Checkpoint::open(directory.path);
  EXPECT_EQ(checkpoint.config().at("model_type"), "m2m_100");
  EXPECT_TRUE(checkpoint.generation_config().empty());
  EXPECT_EQ(checkpoint.find("b"), nullptr);
  EXPECT_THAT(values(checkpoint.read("a")), ElementsAre(1, 2, 3));
  EXPECT_THAT(values(checkpoint.read_rows("a", 1, 2)), ElementsAre(2, 3));
  ASSERT_EQ(checkpoint.sources().size(), 2U);
  EXPECT_EQ(checkpoint.sources()[0].name, "config.json");
  EXPECT_EQ(checkpoint.sources()[0].size, 24U);
  EXPECT_EQ(checkpoint.sources()[1].path, directory.path / "model.safetensors");
}

TEST(Checkpoint, TakesFromEachShardWhatTheIndexSays) {
  const Directory directory;
  directory.put("config.json", "{}");
  directory.put("generation_config.json", R"({"max_length":200})");
  directory.put(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}})");
  write_safetensors(directory.path / "1.safetensors", {{"a", floats({1})}, {"c", floats({9})}});
  write_safetensors(directory.path / "2.safetensors", {{"b", floats({2})}, {"c", floats({3})}});
  const Checkpoint checkpoint = Checkpoint::open(directory.path);
  EXPECT_EQ(checkpoint.generation_config().at("max_length"), 200);
  EXPECT_EQ(checkpoint.tensors().size(), 3U);
  EXPECT_THAT(values(checkpoint.read("c")), ElementsAre(3));
  EXPECT_EQ(checkpoint.sources().size(), 5U);
  EXPECT_THAT(refusal([&] { checkpoint.check_copies(); }),
              HasSubstr("'c' is in 2.safetensors, which the index names, and with other values in "
                        "1.safetensors"));
}

TEST(Checkpoint, TakesATensorThatEveryShardRepeats) {
  const Directory directory;
  directory.put("config.json", "{}");
  directory.put("model.safetensors.index.json",
                R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}})");
  write_safetensors(directory.path / "2.safetensors", {{"b", floats({2})}, {"c", floats({3, 4})}});
  const auto copies = [&](const Tensor& c) {
    write_safetensors(directory.path / "1.safetensors", {{"a", floats({1})}, {"c", c}});
    return error_of([&] { Checkpoint::open(directory.path).check_copies(); });
  };
  EXPECT_EQ(copies(floats({3, 4})), "");
  EXPECT_EQ(copies(Tensor::of<double>(DType::f64, {2}, std::vector<double>{3, 4})), "");
  EXPECT_THAT(copies(floats({3, 5})), HasSubstr("'c'"));
  EXPECT_THAT(copies(floats({3})), HasSubstr("'c'"));
}

TEST(Checkpoint, RefusesIndexesThatLeadAstray) {
  const Directory directory;
  directory.put("config.json", "{}");
  write_safetensors(directory.path / "1.safetensors", {{"a", floats({1})}});
  const auto with = [&](std::string_view index) {
    directory.put("model.safetensors.index.json", index);
    return directory.refused();
  };
  EXPECT_THAT(with("{}"), HasSubstr("no object \"weight_map\""));
  EXPECT_THAT(with("[]"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(with(R"({"weight_map":{"a":1}})"), HasSubstr("'a' must name a file"));
  EXPECT_THAT(with(R"({"weight_map":{"b":"1.safetensors"}})"),
              HasSubstr("'b' is not in 1.safetensors"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"2.safetensors"}})"),
              HasSubstr("2.safetensors, which is not there"));
  for (const char* name : {"../1.safetensors", "/etc/passwd", "x/1.safetensors", "..", ".", "",
                           "1.safetensors\\u0000"}) {
    EXPECT_THAT(with(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name)),
                HasSubstr("not the plain name of a file"))
        << name;
  }
}

TEST(Checkpoint, OpensAThousandShardsAndRefusesMore) {
  const Directory directory;
  directory.put("config.json", "{}");
  std::string map;
  for (int i = 0; i <= 1024; ++i) {
    const std::string name = fmt::format("t{}", i);
    const NamedType type[] = {{name, {DType::u8, {1}}}};
    directory.put((name + ".safetensors").c_str(), safetensors_header(type) + "x");
    map += fmt::format(R"({}"{}":"{}.safetensors")", i == 0 ? "" : ",", name, name);
    if (i == 1023) {
      directory.put("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
      EXPECT_EQ(Checkpoint::open(directory.path).tensors().size(), 1024U);
    }
  }
  directory.put("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  EXPECT_THAT(directory.refused(), HasSubstr("more than 1024 shards"));
}

TEST(Checkpoint, CountsTheTensorsOfAllShards) {
  const Directory directory;
  directory.put("config.json", "{}");
  directory.put("model.safetensors.index.json",
                R"({"weight_map":{"0":"1.safetensors","x":"2.safetensors"}})");
  const NamedType one[] = {{"x", {DType::u8, {0}}}};
  directory.put("2.safetensors", safetensors_header(one));
  for (const size_t count : {kMaxTensors - 1, kMaxTensors}) {
    std::vector<NamedType> types;
    for (size_t i = 0; i < count; ++i) types.push_back({std::to_string(i), {DType::u8, {0}}});
    directory.put("1.safetensors", safetensors_header(types));
    if (count < kMaxTensors) {
      EXPECT_EQ(Checkpoint::open(directory.path).tensors().size(), 2U);
    } else {
      EXPECT_THAT(directory.refused(), HasSubstr("hold more than 100000 tensors"));
    }
  }
}

TEST(Checkpoint, SaysWhatOtherDirectoriesAre) {
  const auto refused = [](std::initializer_list<const char*> names) {
    const Directory directory;
    for (const char* name : names) directory.put(name, "{}");
    return directory.refused();
  };
  EXPECT_THAT(refused({"adapter_config.json", "adapter_model.safetensors"}),
              HasSubstr("is an adapter (LoRA), not a model: merge it"));
  EXPECT_THAT(refused({"config.json", "model.bin", "shared_vocabulary.json"}),
              HasSubstr("is a CTranslate2 model"));
  EXPECT_THAT(refused({"model.bin", "source_vocabulary.txt", "target_vocabulary.txt"}),
              HasSubstr("give the Hugging Face directory that it was converted from"));
  EXPECT_THAT(refused({"config.json", "adapter_config.json", "adapter_model.bin"}),
              HasSubstr("then give that directory"));
  EXPECT_THAT(refused({"config.json", "nllb-600M-q8.gguf"}), HasSubstr("holds GGUF files"));
  EXPECT_THAT(refused({"config.json", "tf_model.h5"}), HasSubstr("TensorFlow or Flax"));
  EXPECT_THAT(refused({"config.json"}), HasSubstr("has no weights"));
  EXPECT_THAT(refused({"model.safetensors"}), HasSubstr("has no config.json"));
}

TEST(Checkpoint, RefusesTheMixtureOfExpertsBeforeItsWeights) {
  const Directory directory;
  directory.put("config.json", R"({"model_type":"nllb-moe"})");
  EXPECT_THAT(directory.refused(), HasSubstr("take a dense one"));
}

TEST(Checkpoint, SaysThatADirectoryIsWanted) {
  const Directory directory;
  const auto refused = [&](const char* name) {
    return refusal([&] { Checkpoint::open(directory.path / name); });
  };
  EXPECT_THAT(refused("nowhere"), HasSubstr("no such directory"));
  directory.put("x.gguf", "GGUF\3\0\0\0");
  EXPECT_THAT(refused("x.gguf"), HasSubstr("is a GGUF file"));
  directory.put("model.safetensors", "");
  EXPECT_THAT(refused("model.safetensors"), HasSubstr("give the directory"));
}

TEST(StoredTensor, GathersStridedElements) {
  const Directory directory;
  directory.put("bytes", std::string("0123456789abcdef", 16));
  const auto file = MappedFile::open(directory.path / "bytes");
  const auto text = [](const Tensor& tensor) {
    return std::string(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  };
  const StoredTensor transposed{{DType::u8, {3, 4}}, file, 2, {1, 3}};
  EXPECT_EQ(text(read(transposed)), "258b369c47ad");
  EXPECT_EQ(text(read_rows(transposed, 1, 2)), "369c47ad");
  const StoredTensor wide{{DType::s32, {2, 2}}, file, 0, {1, 2}};
  EXPECT_EQ(text(read(wide)), "012389ab4567cdef");
  const StoredTensor plain{{DType::u8, {2, 3}}, file, 1, {}};
  EXPECT_EQ(text(read_rows(plain, 1, 1)), "456");
  EXPECT_EQ(read(plain).data.data(), file->bytes().data() + 1) << "a view, not a copy";
  EXPECT_TRUE(same_values(transposed, StoredTensor{{DType::u8, {3, 4}}, file, 2, {1, 3}}));
  EXPECT_FALSE(same_values(transposed, StoredTensor{{DType::u8, {3, 4}}, file, 2, {}}));
  EXPECT_FALSE(same_values(transposed, StoredTensor{{DType::s8, {3, 4}}, file, 2, {1, 3}}));
}

}  // namespace
}  // namespace ng
