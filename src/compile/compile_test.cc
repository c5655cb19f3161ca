#include "compile/compile.h"

#include <gmock/gmock.h>

#include <cmath>

#include "backends/xla/import_hlo.h"
#include "bundle/bundle.h"
#include "bundle/format.h"
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

TEST(Compile, GivesATargetWithFixedShapesItsModulesAndTheirWeights) {
  const TinyCheckpoint checkpoint;
  const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", small_modules());
  std::vector<std::string> names;
  for (const Bundle::Module& module : bundle.modules()) names.push_back(module.name);
  EXPECT_THAT(names, ElementsAre("encode-b1-s4-t6", "encode-b1-s8-t6", "encode-b2-s4-t6",
                                 "encode-b2-s8-t6", "prefill-b1-s8-t6", "prefill-b2-s8-t6",
                                 "decode-b1-s8-t6", "decode-b2-s8-t6"));
  EXPECT_EQ(bundle.sizes().cache_rows(), 2 * 2 * 6 + 1);
  EXPECT_EQ(bundle.sizes().candidates, 2 + 2 + 16);
  Progress quiet(true);
  check_bundle(checkpoint.path / "bundle", quiet);
  const Bundle again = compiled(checkpoint.model, checkpoint.path / "again", small_modules());
  EXPECT_EQ(contents(checkpoint.path / "bundle"), contents(checkpoint.path / "again"));
}

// What a target has in a bundle beside weights.
std::map<std::string, std::string> parts_of(const Bundle& bundle, const std::string& target) {
  std::map<std::string, std::string> parts;
  if (!find_backend(target).target.fixed) {
    for (const std::string_view phase : kPhases) {
      parts[std::string(phase)] = bundle.file(graph_file(phase), target);
    }
    return parts;
  }
  for (const Bundle::Module& module : bundle.modules()) {
    parts[module.name] = bundle.file(module_file(module.name), target);
  }
  parts["sizes"] = bundle.manifest().at("sizes").dump() + bundle.manifest().at("modules").dump();
  return parts;
}

class SeveralTargets : public testing::TestWithParam<std::set<std::string>> {};

TEST_P(SeveralTargets, HaveInOneBundleWhatEachHasInOneOfItsOwn) {
  const TinyCheckpoint checkpoint;
  CompileOptions options = small_modules();
  options.neuron.emit_only = true;
  options.dtype = DType::bf16;
  options.targets = GetParam();
  const Bundle all = compiled(checkpoint.model, checkpoint.path / "all", options);
  EXPECT_EQ(all.targets(), GetParam());
  Progress quiet(true);
  check_bundle(checkpoint.path / "all", quiet);
  std::set<std::string> tensors;
  for (const std::string& target : GetParam()) {
    options.targets = {target};
    const Bundle one = compiled(checkpoint.model, checkpoint.path / target, options);
    EXPECT_EQ(parts_of(all, target), parts_of(one, target)) << target;
    EXPECT_GE(parts_of(one, target).size(), 4U);
    for (const auto& [name, stored] : one.weights()) {
      EXPECT_EQ(all.weights().at(name).sha256, stored.sha256) << name;
      tensors.insert(name);
    }
    for (const auto& [name, bytes] : contents(checkpoint.path / target)) {
      EXPECT_EQ(name.find("." + target), std::string::npos) << "no name says the only target";
    }
  }
  EXPECT_EQ(all.weights().size(), tensors.size()) << "each tensor once, and no other";
}

using Names = std::set<std::string>;
INSTANTIATE_TEST_SUITE_P(
    Compile, SeveralTargets,
    testing::Values(Names{"cpu", "pjrt", "inf2"}, Names{"cpu", "reference"},
                    Names{"inf2", "trn1", "trn2"}, Names{"pjrt", "trn1", "trn2"},
                    Names{"cpu", "inf2", "pjrt", "reference", "trn1", "trn2"}));

// Neuron's modules are the same for all its targets, and are kept once beside XLA's.
TEST(Compile, KeepsModulesOfTheSameBytesOnce) {
  const TinyCheckpoint checkpoint;
  CompileOptions options = small_modules();
  options.neuron.emit_only = true;
  for (const Names& targets : {Names{"inf2", "pjrt", "trn1"}, Names{"pjrt", "trn1", "trn2"}}) {
    options.targets = targets;
    options.force = true;
    const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", options);
    EXPECT_EQ(bundle.manifest().at("files").size(), 2 * bundle.modules().size());
    for (const Bundle::Module& module : bundle.modules()) {
      EXPECT_TRUE(bundle.has_file("hlo/" + module.name + ".pb"));
      EXPECT_TRUE(bundle.has_file("hlo/" + module.name + ".pjrt.pb"));
    }
  }
}

TEST(Compile, CachesThatAreReorderedAreInTheManifestAndTheirModulesComeBackFromImport) {
  const TinyCheckpoint checkpoint;
  CompileOptions options = small_modules();
  options.modules.reorder = true;
  const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", options);
  EXPECT_EQ(bundle.manifest().at("sizes").at("reorder"), 1);
  EXPECT_EQ(bundle.sizes().cache_rows(), (2 * 2 + 1) * 6);
  for (const Bundle::Module& module : bundle.modules()) {
    const Graph graph = import_hlo(bundle.file(module_file(module.name), *bundle.targets().begin()),
                                   module.name);  // its own bytes again
    EXPECT_EQ(graph.find_output("keys.0.next").has_value(), module.phase == "decode");
    EXPECT_EQ(graph.find_output("keys.0").has_value(), module.phase == "prefill");
  }
}

TEST(Compile, RefusesModulesOfImpossibleSizes) {
  const TinyCheckpoint checkpoint;
  const auto refused = [&](auto change) {
    CompileOptions options = small_modules();
    change(options.modules);
    return refusal([&] { compiled(checkpoint.model, checkpoint.path / "bundle", options); });
  };
  EXPECT_THAT(refused([](auto& m) { m.batches = {0}; }), HasSubstr("--batch 0"));
  EXPECT_THAT(refused([](auto& m) { m.beams = 65; }), HasSubstr("--beams 65"));
  EXPECT_THAT(refused([](auto& m) { m.source_lengths = {}; }), HasSubstr("--source-lengths"));
  EXPECT_THAT(refused([](auto& m) { m.target_length = 8193; }), HasSubstr("--target-length 8193"));
  EXPECT_THAT(refused([](auto& m) { m.target_length = 1; }),
              HasSubstr("--target-length 1: from 2 to 8192"));
  EXPECT_THAT(refused([](auto& m) { m.ranks = 65; }), HasSubstr("--tp 65: from 1 to 64"));
}

TEST(Compile, TakesModulesOfSizesAtTheLimitAndOpensTheirBundle) {
  const TinyCheckpoint checkpoint;
  CompileOptions options = small_modules();
  options.modules.batches = {1024};
  options.modules.source_lengths = {8192};
  options.modules.target_length = 8192;
  options.modules.beams = 64;
  options.modules.with_logits = true;
  for (const bool reorder : {false, true}) {
    options.modules.reorder = reorder;
    options.force = true;
    const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", options);
    EXPECT_EQ(bundle.sizes().cache_rows(), (int64_t{1} << 29) + (reorder ? 8192 : 1));
    Progress quiet(true);
    check_bundle(checkpoint.path / "bundle", quiet);
  }
}

TEST(Compile, GivesEveryPhaseItsGraphAndItsWeights) {
  const TinyCheckpoint checkpoint;
  for (const char* target : {"cpu", "reference"}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      CompileOptions options;
      options.targets = {target};
      options.dtype = dtype;
      options.force = true;
      const Bundle bundle = compiled(checkpoint.model, checkpoint.path / "bundle", options);
      EXPECT_THAT(bundle.targets(), ElementsAre(target));
      EXPECT_EQ(bundle.dtype(), dtype);
      EXPECT_EQ(bundle.facts().vocabulary, 37);
      EXPECT_THAT(bundle.facts().eos, ElementsAre(2, 5));
      EXPECT_TRUE(bundle.generation_config().is_null());
      EXPECT_EQ(bundle.config(), tiny_config());
      EXPECT_FALSE(bundle.has_tokenizer());
      for (const std::string_view phase : kPhases) {
        const Graph graph = parse_graph(bundle.file(graph_file(phase), target), phase);
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
  for (const char* name : {"weights.bin", "manifest.json"}) {  // what was evidently a bundle
    std::filesystem::remove(out / name);
    compiled(checkpoint.model, out, force);
  }
}

TEST(Compile, AsksForRoomForEveryFile) {
  const TinyCheckpoint checkpoint;
  uint64_t asked = 0, written = 0;
  CompileOptions options;
  options.make_room = [&](uint64_t bytes) { asked = bytes; };
  compiled(checkpoint.model, checkpoint.path / "bundle", options);
  for (const auto& [name, bytes] : contents(checkpoint.path / "bundle")) written += bytes.size();
  EXPECT_GE(asked, written);
  EXPECT_LE(asked, written + written / 2);
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

TEST(Compile, RefusesWhatBf16RoundsToInfinity) {
  const float most = 0x1.FEp127F;  // the largest that bf16 has
  for (const char* name : {"model.encoder.layers.1.self_attn.k_proj.weight",  // joined with q and v
                           "model.encoder.layers.1.fc2.weight"}) {
    for (const float value : {most, -3.4e38F, std::nextafter(0x1.FFp127F, 0.0F), 0x1.FFp127F}) {
      const TinyCheckpoint checkpoint;
      auto tensors = tiny_tensors(tiny_config());
      const Shape shape = tensors.at(name).type.shape;
      std::vector<float> values(static_cast<size_t>(element_count(shape)), 0.5F);
      values.at(static_cast<size_t>(shape[1].size) * 23 + 1) = value;
      tensors.at(name) = stored_as(DType::f32, shape, values);
      checkpoint.write(tensors);
      CompileOptions bf16;
      bf16.dtype = DType::bf16;
      const auto act = [&] { compiled(checkpoint.model, checkpoint.path / "bf16", bf16); };
      if (std::abs(value) < 0x1.FFp127F) {
        EXPECT_NO_THROW(act()) << value;
      } else {
        EXPECT_THAT(refusal(act),
                    HasSubstr(fmt::format("'{}' holds {} at [23,1], which bf16 rounds to infinity: "
                                          "compile with --dtype f32",
                                          name, value)));
      }
      EXPECT_NO_THROW(compiled(checkpoint.model, checkpoint.path / "f32"));
    }
  }
}

// What compile says, once it has ended well.
std::string said(const Path& model, const Path& out) {
  testing::internal::CaptureStderr();
  Progress progress(false);
  compile(Checkpoint::open(model), {}, out, progress);
  return testing::internal::GetCapturedStderr();
}

TEST(Compile, M2M100sOwnVocabularyIsNoTokenizer) {
  const TinyCheckpoint checkpoint;
  put_file(checkpoint.model / "sentencepiece.bpe.model", "unread");
  put_file(checkpoint.model / "vocab.json", R"({"<s>":0})");
  EXPECT_THAT(said(checkpoint.model, checkpoint.path / "bundle"),
              HasSubstr("vocab.json and sentencepiece.bpe.model are M2M100's"));
  const Bundle bundle = Bundle::open(checkpoint.path / "bundle");
  EXPECT_FALSE(bundle.has_tokenizer());
  EXPECT_TRUE(bundle.manifest().at("sources").contains("vocab.json"));
}

TEST(Compile, WarnsOfDefaultsThatNoRequestCanRunWith) {
  const TinyCheckpoint checkpoint;
  int made = 0;
  const auto warned = [&](const char* generation) {
    put_file(checkpoint.model / "generation_config.json", generation);
    return said(checkpoint.model, checkpoint.path / std::to_string(++made));
  };
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"do_sample":true})"), HasSubstr("do_sample"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"num_beams":65})"),
              HasSubstr("warning: generate and translate will refuse these defaults: "
                        "generation_config.json: \"num_beams\" is 65"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"num_beams":"x"})"), HasSubstr("num_beams"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"num_beam_groups":2})"),
              HasSubstr("num_beam_groups"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"penalty_alpha":0.6})"),
              HasSubstr("penalty_alpha"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"eos_token_id":99})"),
              HasSubstr("eos_token_id"));
  EXPECT_THAT(warned(R"({"decoder_start_token_id":2,"num_beams":4})"),
              testing::Not(HasSubstr("warning")));
}

// The manifest's facts decide which ids are let into the graphs: they must be the graphs' own.
TEST(Compile, FactsThatAreNotTheGraphsAreFound) {
  const TinyCheckpoint checkpoint;
  const Path path = checkpoint.path / "bundle";
  const Json good = compiled(checkpoint.model, path).manifest();
  const auto found = [&](const char* key, int value) {
    Json changed = good;
    changed["model"][key] = value;
    put_manifest(path, changed);
    const std::string opened =
        refusal([&] { checked_artifact(Bundle::open(path), "decode", "cpu"); });
    Progress quiet(true);
    EXPECT_NE(refusal([&] { check_bundle(path, quiet); }), "");
    return opened;
  };
  EXPECT_THAT(found("vocabulary", 4'000'000), HasSubstr("the embedding has 48 rows"));
  EXPECT_THAT(found("vocabulary", 38), HasSubstr("scores 37 ids, manifest.json says 38"));
  EXPECT_THAT(found("vocabulary", 36), HasSubstr("scores 37 ids, manifest.json says 36"));
  EXPECT_THAT(found("pad", 3), HasSubstr("pads with id 1, manifest.json says 3"));
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
