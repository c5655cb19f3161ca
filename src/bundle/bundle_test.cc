#include "bundle/bundle.h"

#include <gmock/gmock.h>

#include "bundle/format.h"
#include "checkpoint/damage_for_test.h"

namespace ng {
namespace {

using testing::HasSubstr;

Tensor numbers(int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i) + 0.5F);
  return Tensor::of<float>(DType::f32, {count}, values);
}

Json facts() {
  return {{"config", {{"model_type", "m2m_100"}}},
          {"generation_config", nullptr},
          {"dtype", "f32"},
          {"licence", "none"},
          {"targets", {"cpu", "pjrt"}},
          {"model",
           {{"family", "m2m_100"},
            {"vocabulary", 9},
            {"pad", 1},
            {"decoder_start", 2},
            {"eos", {2, 3}},
            {"parameters", 26}}}};
}

// A bundle of three tensors and two files.
struct Small : TemporaryDirectory {
  Path bundle = path / "bundle";
  Json manifest;
  Small() {
    BundleWriter writer(bundle, false);
    writer.add_file("graphs/encode.txt", "graph encode\n");
    writer.add_file("tokenizer/tokenizer.bin", std::string_view("a\0b", 3));
    for (const auto& [name, size] : {std::pair("z", 5), {"a", 16}, {"m.weight", 5}}) {
      const Tensor tensor = numbers(size);
      writer.begin_tensor(name, tensor.type);
      writer.write(tensor.data.first(4));
      writer.write(tensor.data.subspan(4));
    }
    writer.commit(facts());
    manifest = Json::parse(read(kManifestName));
  }
  std::string read(std::string_view name) const { return read_file(bundle / name, 1 << 20); }
  void put(std::string_view name, std::string_view bytes) const {
    std::filesystem::remove(bundle / name);  // rewriting in place makes some file systems sync
    put_file(bundle / name, bytes);
  }
  // Replaces the manifest and its hash; those of `refused` are changes of the first one.
  void put_manifest(const std::string& text) const {
    put(kManifestName, text);
    put(kHashName, hash_line(sha256(text)));
  }
  template <class Change>
  std::string refused(Change change) const {
    Json changed = manifest;
    change(changed);
    put_manifest(changed.dump(2) + "\n");
    return refusal([&] { Bundle::open(bundle); });
  }
  std::string check() const {
    return refusal([&] {
      Progress quiet(true);
      Bundle::open(bundle).check_weights(quiet);
    });
  }
};

TEST(Bundle, GivesBackWhatWasWritten) {
  const Small small;
  const Bundle bundle = Bundle::open(small.bundle);
  EXPECT_EQ(bundle.file(graph_file("encode"), "cpu"), "graph encode\n");
  EXPECT_TRUE(bundle.has_tokenizer());
  EXPECT_EQ(bundle.tokenizer_bytes(), std::string_view("a\0b", 3));
  EXPECT_EQ(bundle.facts().eos, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(bundle.facts().parameters, 26);
  for (const auto& [name, size] : {std::pair("z", 5), {"a", 16}, {"m.weight", 5}}) {
    const Tensor found = bundle.weight(name), wanted = numbers(size);
    EXPECT_EQ(found.type, wanted.type);
    EXPECT_TRUE(std::equal(found.data.begin(), found.data.end(), wanted.data.begin()));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(found.data.data()) % kWeightAlignment, 0U);
  }
  Progress quiet(true);
  bundle.check_weights(quiet);
  EXPECT_THAT(refusal([&] { bundle.weight("b"); }), HasSubstr("no tensor 'b'"));
  EXPECT_THAT(refusal([&] { bundle.file(graph_file("decode"), "cpu"); }),
              HasSubstr("no graphs/decode.txt"));
}

// Four targets' files: b is the first, c has its bytes, the others have their own.
TEST(Bundle, AFileIsATargetsOwnOnlyWhereItsBytesDiffer) {
  const TemporaryDirectory folder;
  BundleWriter writer(folder.path / "bundle", false);
  for (const auto& [target, bytes] : {std::pair("b", "1"), {"a", "2"}, {"c", "1"}, {"d", "2"}}) {
    writer.add_file_of(target, "graphs/encode.txt", bytes);
    writer.add_file_of(target, "hlo/x-b1.pb", bytes);
  }
  writer.commit(facts());
  const Bundle bundle = Bundle::open(folder.path / "bundle");
  std::string names;
  for (const auto& [name, row] : bundle.manifest().at("files").items()) names += name + " ";
  EXPECT_EQ(names,
            "graphs/encode.a.txt graphs/encode.d.txt graphs/encode.txt "
            "hlo/x-b1.a.pb hlo/x-b1.d.pb hlo/x-b1.pb ");
  for (const auto& [target, bytes] : {std::pair("b", "1"), {"a", "2"}, {"c", "1"}, {"d", "2"}}) {
    EXPECT_EQ(bundle.file(graph_file("encode"), target), bytes) << target;
    EXPECT_EQ(bundle.file(module_file("x-b1"), target), bytes) << target;
    EXPECT_FALSE(bundle.has_file(bundle.file_of(program_file("x-b1"), target)));
  }
}

TEST(Bundle, TensorsOutliveTheBundle) {
  const Small small;
  const Tensor tensor = Bundle::open(small.bundle).weight("a");
  EXPECT_TRUE(std::equal(tensor.data.begin(), tensor.data.end(), numbers(16).data.begin()));
}

TEST(Bundle, OpensInSpiteOfFilesOutsideTheIdentity) {
  const Small small;
  const std::string identity = Bundle::open(small.bundle).identity();
  small.put("verification.json", "{}");
  EXPECT_EQ(Bundle::open(small.bundle).identity(), identity);
}

TEST(Bundle, OfAnotherVersionSaysWhatToDo) {
  const Small small;
  EXPECT_THAT(small.refused([](Json& m) { m["version"] = 1; }),
              HasSubstr("version 1, this neuroglot reads version 4: compile the checkpoint again"));
  EXPECT_THAT(small.refused([](Json& m) { m["schema"] = "other"; }), HasSubstr("not the manifest"));
}

TEST(Bundle, SaysWhichOfItsFilesIsMissing) {
  for (const char* name : {"manifest.json", "weights.bin", "manifest.sha256"}) {
    const Small small;
    std::filesystem::remove(small.bundle / name);
    EXPECT_TRUE(is_bundle(small.bundle));
    EXPECT_THAT(refusal([&] { Bundle::open(small.bundle); }),
                HasSubstr(fmt::format("this bundle has no {}", name)));
  }
  const Small small;
  small.put("config.json", "{}");
  std::filesystem::remove(small.bundle / "weights.bin");
  EXPECT_FALSE(is_bundle(small.bundle)) << "a checkpoint";
}

TEST(Bundle, FindsEveryEditOfAFile) {
  for (const char* name : {"manifest.json", "graphs/encode.txt", "tokenizer/tokenizer.bin"}) {
    const Small small;
    std::string bytes = small.read(name);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    small.put(name, bytes);
    EXPECT_THAT(refusal([&] { Bundle::open(small.bundle); }), HasSubstr(name));
    small.put(name, bytes + " ");
    EXPECT_THAT(refusal([&] { Bundle::open(small.bundle); }), HasSubstr(name));
    std::filesystem::remove(small.bundle / name);
    refusal([&] { Bundle::open(small.bundle); });
  }
  const Small small;
  small.put("weights.bin", small.read("weights.bin") + "x");
  EXPECT_THAT(refusal([&] { Bundle::open(small.bundle); }), HasSubstr("weights.bin: has"));
}

TEST(Bundle, CheckNamesTheFirstTensorThatDiffers) {
  const Small small;
  const std::string good = small.read("weights.bin");
  const auto damaged_at = [&](std::initializer_list<size_t> places) {
    std::string bytes = good;
    for (const size_t at : places) bytes[at] = static_cast<char>(bytes[at] ^ 1);
    small.put("weights.bin", bytes);
    return small.check();
  };
  EXPECT_THAT(damaged_at({130, 70}), HasSubstr("'a' does not have the hash"));
  EXPECT_THAT(damaged_at({130}), HasSubstr("'m.weight' does not have the hash"));
  EXPECT_THAT(damaged_at({21}), HasSubstr("before 'a' are not zero"));
}

TEST(Bundle, BelievesNothingInTheManifest) {
  const Small small;
  const auto tensor = [&](const char* key, Json value) {
    return small.refused([&](Json& m) { m["tensors"]["a"][key] = std::move(value); });
  };
  EXPECT_THAT(tensor("offset", 65), HasSubstr("'a' is not aligned"));
  EXPECT_THAT(tensor("offset", 0), HasSubstr("overlaps"));
  EXPECT_THAT(tensor("offset", 192), HasSubstr("overlaps"));
  EXPECT_THAT(tensor("offset", -64), HasSubstr("\"offset\""));
  EXPECT_THAT(tensor("offset", uint64_t{1} << 63), HasSubstr("\"offset\""));
  EXPECT_THAT(tensor("offset", 1.5), HasSubstr("\"offset\""));
  EXPECT_THAT(tensor("bytes", 63), HasSubstr("has 64 bytes, not 63"));
  EXPECT_THAT(tensor("shape", Json({int64_t{1} << 40, int64_t{1} << 40})), HasSubstr("too large"));
  EXPECT_THAT(tensor("shape", Json({4, -4})), HasSubstr("\"shape\""));
  EXPECT_THAT(tensor("shape", Json({1, 1, 1, 1, 16})), HasSubstr("\"shape\""));
  EXPECT_THAT(tensor("dtype", "f8"), HasSubstr("'f8'"));
  for (const char* name : {"../secret", "/etc/passwd", "graphs/../../x", "graphs/", "a/b/c", "",
                           "x", ".git/config", "graphs/.hidden"}) {
    EXPECT_THAT(small.refused([&](Json& m) { m["files"][name] = m["files"]["graphs/encode.txt"]; }),
                HasSubstr("is no name of a file"));
  }
  for (const char* key : {"config", "generation_config", "dtype", "licence", "targets", "model",
                          "files", "tensors", "weights"}) {
    EXPECT_THAT(small.refused([&](Json& m) { m.erase(key); }), HasSubstr(key));
    EXPECT_THAT(small.refused([&](Json& m) { m[key] = Json::array(); }), HasSubstr(key));
  }
  for (const Json& targets : {Json({""}), Json({"cpu", 1}), Json(std::vector<Json>(17, "cpu"))}) {
    EXPECT_THAT(small.refused([&](Json& m) { m["targets"] = targets; }), HasSubstr("\"targets\""));
  }
  EXPECT_THAT(small.refused([](Json& m) { m["model"]["pad"] = 9; }), HasSubstr("\"pad\""));
  EXPECT_THAT(small.refused([](Json& m) { m["model"]["eos"] = Json::array(); }),
              HasSubstr("\"eos\""));
  EXPECT_THAT(small.refused([](Json& m) { m["model"]["eos"] = {2, 9}; }), HasSubstr("\"eos\""));
  EXPECT_THAT(small.refused([](Json& m) { m["model"]["vocabulary"] = 0; }),
              HasSubstr("vocabulary"));
}

TEST(Bundle, BelievesNothingThatItsManifestSaysOfModules) {
  const Small small;
  const auto change = [&](const char* table, const char* key, const Json& value) {
    return small.refused([&](Json& m) {
      m["sizes"] = {{"slots", 1024},  {"beams", 64},      {"prefill_rows", 16}, {"source", 8192},
                    {"target", 8192}, {"candidates", 82}, {"vocabulary", 9},    {"width", 65536},
                    {"ranks", 64},    {"reorder", 1}};
      m["module"] = {{"name", "x-b1"}, {"phase", "encode"}, {"sentences", 1024}, {"rows", 8192}};
      m[table][key] = value;
      m["modules"] = Json::array({m["module"]});
    });
  };
  for (const char* name : {"../../evil", "/etc/passwd", "a/b", ".hidden", "x\ny", "X"}) {
    EXPECT_THAT(change("module", "name", name), HasSubstr("is no name of a file"));
  }
  EXPECT_THAT(change("module", "backend", "../cpu"), HasSubstr("no backend"));
  EXPECT_THAT(change("module", "sentences", 1025), HasSubstr("from 0 to 1024"));
  EXPECT_THAT(change("module", "rows", 8193), HasSubstr("from 0 to 8192"));
  EXPECT_THAT(change("module", "phase", "decode"), HasSubstr("from 0 to 64"));
  EXPECT_THAT(change("module", "rows", 0), HasSubstr("is empty"));
  for (const auto& [key, most] : {std::pair("slots", 1024),
                                  {"beams", 64},
                                  {"prefill_rows", 64},
                                  {"source", 8192},
                                  {"target", 8192},
                                  {"width", 65536},
                                  {"ranks", 64},
                                  {"reorder", 1}}) {
    EXPECT_THAT(change("sizes", key, most + 1), HasSubstr(fmt::format("from 0 to {}", most)));
  }
  EXPECT_THAT(change("sizes", "vocabulary", 8), HasSubstr("do not fit each other"));
}

TEST(Bundle, SurvivesDamagedManifests) {
  const Small small;
  expect_survives(small.read(kManifestName), 3000, [&](std::span<const std::byte> bytes) {
    small.put_manifest({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    const Bundle bundle = Bundle::open(small.bundle);
    for (const auto& [name, stored] : bundle.weights()) {
      size_t sum = 0;
      for (const std::byte byte : bundle.weight(name).data) sum += static_cast<size_t>(byte);
      EXPECT_LE(sum, 255 * stored.bytes);
    }
  });
}

}  // namespace
}  // namespace ng
