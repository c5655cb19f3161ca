#include "compile/compile.h"

#include <gmock/gmock.h>

#include <cmath>

#include "bundle/bundle.h"
#include "compile/tiny_for_test.h"
#include "ir/text.h"

namespace ng {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Bundle compiled(const Path& model, const Path& out, CompileOptions options = {}) {
  Progress quiet(true);
  compile(Checkpoint::open(model), options, out, quiet);
  return Bundle::open(out);
}

std::map<std::string, std::string> contents(const Path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    files[std::filesystem::relative(entry.path(), directory)] =
        read_file(entry.path(), size_t{1} << 30);
  }
  return files;
}

TEST(Compile, GivesEveryPhaseItsGraphAndItsWeights) {
  const TinyCheckpoint checkpoint;
  for (const char* target : {"cpu", "reference"}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      CompileOptions options;
      options.target = target;
      options.dtype = dtype;
      options.force = true;
      const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", options);
      EXPECT_EQ(bundle.target(), target);
      EXPECT_EQ(bundle.dtype(), dtype);
      EXPECT_EQ(bundle.facts().vocabulary, 37);
      EXPECT_THAT(bundle.facts().eos, ElementsAre(2, 5));
      EXPECT_TRUE(bundle.generation_config().is_null());
      EXPECT_EQ(bundle.config(), tiny_config());
      EXPECT_FALSE(bundle.has_tokenizer());
      for (const std::string_view phase : kPhases) {
        const Graph graph = parse_graph(bundle.artifact(std::string(phase)), phase);
        EXPECT_EQ(graph.name, phase);
        for (const Node& node : graph.nodes()) {
          if (node.op == Op::weight) {
            EXPECT_EQ(bundle.weight(node.attrs.name).type, node.types[0]) << node.attrs.name;
          }
        }
      }
    }
  }
}

TEST(Compile, TwiceGivesTheSameBytesWhateverTheThreads) {
  const TinyCheckpoint checkpoint;
  CompileOptions options;
  options.threads = 1;
  compiled(checkpoint.model, checkpoint.path / "a", options);
  options.threads = 4;
  options.known_hashes = {{"config.json", sha256(tiny_config().dump())}};
  compiled(checkpoint.model, checkpoint.path / "b", options);
  EXPECT_EQ(contents(checkpoint.path / "a"), contents(checkpoint.path / "b"));
}

TEST(Compile, ManifestSaysWhatItWasMadeOfButNotWhereOrWhen) {
  const TinyCheckpoint checkpoint;
  put_file(checkpoint.model / "generation_config.json", R"({"max_length":200})");
  put_file(checkpoint.model / "unrelated.txt", "x");
  const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle");
  const Json& sources = bundle.manifest().at("sources");
  EXPECT_EQ(sources.size(), 3U);
  EXPECT_EQ(sources.at("config.json").at("sha256"), sha256(tiny_config().dump()));
  EXPECT_EQ(bundle.generation_config().at("max_length"), 200);
  const std::string text = read_file(checkpoint.path / "bundle/manifest.json", 1 << 24);
  EXPECT_EQ(text.find(checkpoint.path.string()), std::string::npos);
  EXPECT_EQ(text, bundle.manifest().dump(2) + "\n");
  EXPECT_EQ(bundle.identity(), sha256(text));
}

TEST(Compile, ReplacesABundleOnlyWithForceAndNothingElseEver) {
  const TinyCheckpoint checkpoint;
  const Path out = checkpoint.path / "bundle";
  compiled(checkpoint.model, out);
  EXPECT_THAT(refusal([&] { compiled(checkpoint.model, out); }), HasSubstr("--force"));
  CompileOptions force;
  force.force = true;
  compiled(checkpoint.model, out, force);
  EXPECT_THAT(refusal([&] { compiled(checkpoint.model, checkpoint.model, force); }),
              HasSubstr("is no bundle"));
  EXPECT_TRUE(std::filesystem::exists(checkpoint.model / "config.json"));
}

TEST(Compile, LeavesNothingBehindWhenItFails) {
  const TinyCheckpoint checkpoint;
  auto tensors = tiny_tensors(tiny_config());
  Tensor& bias = tensors.at("model.decoder.layers.0.fc1.bias");
  std::vector<float> values(17);
  values[3] = NAN;
  bias = Tensor::of<float>(DType::f32, bias.type.shape, values);
  checkpoint.write(tensors);
  const std::string message =
      refusal([&] { compiled(checkpoint.model, checkpoint.path / "bundle"); });
  EXPECT_THAT(message, HasSubstr("'model.decoder.layers.0.fc1.bias' holds nan at [3]"));
  CompileOptions full;
  full.make_room = [](uint64_t bytes) { fail("{} bytes are too many", bytes); };
  EXPECT_THAT(refusal([&] { compiled(checkpoint.model, checkpoint.path / "bundle", full); }),
              HasSubstr("bytes are too many"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(checkpoint.path), {}), 1);
}

TEST(Compile, RefusesWeightsThatAreNoNumbers) {
  const std::string name = "model.encoder.layers.1.fc2.weight";  // [24, 40]
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const float value : {NAN, INFINITY, -INFINITY, 65504.0F}) {
      const TinyCheckpoint checkpoint;
      auto tensors = tiny_tensors(tiny_config(), dtype);
      const Shape shape = tensors.at(name).type.shape;
      std::vector<float> values(static_cast<size_t>(element_count(shape)), 0.5F);
      values.at(41) = value;
      tensors.at(name) = stored_as(dtype, shape, values);
      checkpoint.write(tensors);
      const auto act = [&] { compiled(checkpoint.model, checkpoint.path / "bundle"); };
      if (std::isfinite(value)) {
        EXPECT_NO_THROW(act());
      } else {
        EXPECT_THAT(refusal(act), HasSubstr(fmt::format("'{}' holds {} at [1,1]", name, value)));
      }
    }
  }
}

TEST(Compile, TakesTheLicenceFromTheModelCardOrTheKindOfModel) {
  const TinyCheckpoint nllb;
  EXPECT_THAT(licence(Checkpoint::open(nllb.model)), HasSubstr("CC-BY-NC 4.0 unless"));
  put_file(nllb.model / "README.md", "---\nlanguage: de\nlicense:  apache-2.0 \n---\ntext\n");
  EXPECT_EQ(licence(Checkpoint::open(nllb.model)), "apache-2.0, says the checkpoint's README.md");
  put_file(nllb.model / "README.md", "# no front matter\nlicense: mit\n");
  EXPECT_THAT(licence(Checkpoint::open(nllb.model)), HasSubstr("CC-BY-NC"));
  Json config = tiny_config();
  config.erase("tokenizer_class");
  EXPECT_EQ(licence(Checkpoint::open(TinyCheckpoint(DType::f32, config).model)), "unknown");
  config["_name_or_path"] = "facebook/m2m100_418M";
  EXPECT_THAT(licence(Checkpoint::open(TinyCheckpoint(DType::f32, config).model)),
              HasSubstr("MIT"));
}

}  // namespace
}  // namespace ng
