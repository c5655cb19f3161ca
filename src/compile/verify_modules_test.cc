// Does verify name the module and the output where a device computes something else?
#include <gtest/gtest.h>

#include <cstring>

#include "backends/xla/emit_hlo.h"
#include "backends/xla/import_hlo.h"
#include "base/error.h"
#include "bundle/format.h"
#include "compile/recording.h"
#include "compile/tiny_for_test.h"
#include "compile/verify.h"

namespace ng {
namespace {

// What of the interpreter is not as it should be.
struct Faults {
  std::string weight =
      {};  // is larger on the device, by 1 %; in bf16, where less is not seen, by a half
  std::string constant = {};  // a constant of this module is larger
  std::string other = {};     // this module is run as it is in `bundle`
  const Bundle* bundle = nullptr;
  bool swapped = false;  // keys.0 and values.0 change places
  std::string ids = {};  // the best two of this module's row 0 change places
};

class SwappedIds : public Executable {
 public:
  explicit SwappedIds(std::unique_ptr<Executable> inner) : inner_(std::move(inner)) {}
  const std::vector<Port>& inputs() const override { return inner_->inputs(); }
  const std::vector<Port>& outputs() const override { return inner_->outputs(); }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    inner_->run(inputs, outputs);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (this->outputs()[i].name != "ids") continue;
      std::swap_ranges(outputs[i].data, outputs[i].data + 4, outputs[i].data + 4);
    }
  }

 private:
  std::unique_ptr<Executable> inner_;
};

Tensor larger(Tensor tensor) {
  std::vector<std::byte> bytes(tensor.data.begin(), tensor.data.end());
  const size_t item = byte_size(tensor.type.dtype);
  for (size_t at = 0; at < bytes.size(); at += item) {
    uint32_t bits = 0;
    std::memcpy(&bits, &bytes[at], item);
    const float value = item == 2 ? bf16_to_f32(uint16_t(bits)) : std::bit_cast<float>(bits);
    bits = item == 2 ? f32_to_bf16(1.5F * value) : std::bit_cast<uint32_t>(1.01F * value);
    std::memcpy(&bytes[at], &bits, item);
  }
  return Tensor::own(tensor.type, std::move(bytes));
}

// The module with its first constant above 1 half as large again.
std::string with_other_constant(std::string_view hlo) {
  Graph graph = import_hlo(hlo, "module"), out(graph.name);
  bool done = false;
  for (const Node& node : graph.nodes()) {
    Node copy = node;
    if (!done && node.op == Op::constant && node.types[0].dtype == DType::f32 &&
        node.attrs.values[0] > 1) {
      copy.attrs.values[0] *= 1.5;
      done = true;
    }
    out.add(std::move(copy));
  }
  EXPECT_TRUE(done);
  out.outputs = graph.outputs;
  return emit_hlo(out, HloDialect::xla);
}

class FaultyDevice : public Device {
 public:
  FaultyDevice(ThreadPool& threads, Faults faults) : inner_(threads), faults_(std::move(faults)) {}
  std::string description() const override { return "faulty"; }
  Tensor state(const std::string& name) override {
    const bool swap = faults_.swapped && (name == "keys.0" || name == "values.0");
    return inner_.state(!swap ? name : name == "keys.0" ? "values.0" : "keys.0");
  }
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    const std::string name = import_hlo(artifact, "module").name;
    const WeightSource wrong = [weights, this](const std::string& weight) {
      return weight == faults_.weight ? larger(weights(weight)) : weights(weight);
    };
    if (name == faults_.constant) return inner_.load(with_other_constant(artifact), wrong);
    if (name == faults_.other)
      return inner_.load(faults_.bundle->file(module_file(name), "pjrt"), wrong);
    auto module = inner_.load(artifact, wrong);
    if (name != faults_.ids) return module;
    return std::make_unique<SwappedIds>(std::move(module));
  }

 private:
  ModuleInterpreter inner_;
  const Faults faults_;
};

class VerifyModules : public testing::TestWithParam<DType> {
 protected:
  static Bundle compiled(const TinyCheckpoint& checkpoint, bool with_logits = true,
                         bool reorder = false, const std::set<std::string>& cpu_ops = {},
                         int64_t beams = 2) {
    CompileOptions options;
    options.targets = {"pjrt"};
    options.dtype = GetParam();
    options.force = true;
    options.modules = {{1, 3}, beams, {8, 24}, 16, true, with_logits, reorder};
    options.modules.cpu_ops = cpu_ops;
    Progress quiet(true);
    compile(Checkpoint::open(checkpoint.model), options, checkpoint.path / "bundle", quiet);
    return Bundle::open(checkpoint.path / "bundle");
  }
  VerifyReport verify(const Bundle& bundle, const Faults& faults = {}, bool referenced = false) {
    VerifyOptions options;
    options.target = "pjrt";
    options.sentences = 3;
    options.threads = 1;
    Progress quiet(true);
    if (referenced) {
      options.reference = checkpoint_.model;
      options.rebuilt = checkpoint_.path / "rebuilt";
      CompileOptions again = options_of(bundle);
      again.force = true;
      compile(Checkpoint::open(checkpoint_.model), again, options.rebuilt, quiet);
    }
    ThreadPool threads(1);
    FaultyDevice device(threads, faults);
    return verify_bundle(bundle, device, options, quiet);
  }
  // Where the first difference is.
  std::string first(const Faults& faults) {
    const VerifyReport report = verify(compiled(checkpoint_), faults);
    if (report.findings.empty()) return "";
    return report.findings[0].level + " " + report.findings[0].where;
  }
  TinyCheckpoint checkpoint_;
};

TEST_P(VerifyModules, FindsNothingInATrueBundle) {
  const VerifyReport report = verify(compiled(checkpoint_), {}, true);
  EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
  for (const char* module : {"encode-b1-s8-t16", "encode-b3-s8-t16", "prefill-b3-s24-t16",
                             "decode-b1-s24-t16", "decode-b3-s24-t16", "logits-b1-s24-t16"}) {
    EXPECT_TRUE(report.modules.contains(module)) << module;
  }
  for (const auto& [module, error] : report.modules) EXPECT_EQ(error, 0) << module;
  EXPECT_EQ(report.precision.size(), 1U);
  EXPECT_GT(report.tokens, 5U);
  EXPECT_EQ(report.tokens, report.tokens_equal);
}

TEST_P(VerifyModules, RunsEveryModuleThatASentenceFits) {
  for (const int64_t beams : {1, 4}) {
    const Bundle bundle = compiled(checkpoint_, false, false, {}, beams);
    const VerifyReport report = verify(bundle);
    EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
    for (const Bundle::Module& module : bundle.modules()) {
      const bool fits = module.name.find("-s24-") == module.name.npos || module.phase != "encode";
      EXPECT_EQ(report.executions.contains(module.name), fits) << module.name;
    }
  }
}

TEST_P(VerifyModules, FindsNothingWhereCachesAreReorderedButAStateThatIsWrong) {
  const Bundle bundle = compiled(checkpoint_, true, true);
  const VerifyReport report = verify(bundle, {}, true);
  EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
  for (const auto& [module, error] : report.modules) EXPECT_EQ(error, 0) << module;
  Faults faults;
  faults.swapped = true;
  EXPECT_FALSE(verify(bundle, faults).findings.empty());
}

TEST_P(VerifyModules, ChecksTheSegmentsOfBothSides) {
  for (const std::set<std::string>& ops : {std::set<std::string>{"linear"}, {"attend", "embed"}}) {
    const Bundle bundle = compiled(checkpoint_, true, false, ops);
    const VerifyReport report = verify(bundle, {}, true);
    EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
    EXPECT_GT(report.nodes, 50U);
    for (const auto& ran : report.executions) {
      const auto is = [&](const Bundle::Module& one) { return one.name == ran.first && one.cpu; };
      EXPECT_EQ(report.backends.at(ran.first).starts_with("cpu"),
                std::ranges::any_of(bundle.modules(), is));
    }
    EXPECT_TRUE(report.modules.contains(ops.contains("linear") ? "encode-b1-s8-t16.1"
                                                               : "encode-b1-s8-t16.2"));
    EXPECT_EQ(report.tokens, report.tokens_equal);
  }
  const Bundle bundle = compiled(checkpoint_, true, false, {"attend"});
  for (const auto& [name, stored] : bundle.weights()) {
    if (name.find("encoder.layers.1.fc1.weight") == std::string::npos) continue;
    const VerifyReport report = verify(bundle, {.weight = name});
    ASSERT_FALSE(report.findings.empty());
    EXPECT_EQ(report.findings[0].where.find("encode-b1-s8-t16.5: "), 0U)
        << report.findings[0].where;
  }
}

TEST_P(VerifyModules, ComparesTokensWhereThereAreNoLogits) {
  const VerifyReport report = verify(compiled(checkpoint_, false), {}, true);
  EXPECT_TRUE(report.findings.empty()) << to_json(report).dump(2);
  EXPECT_TRUE(report.precision.empty());
  EXPECT_GT(report.tokens, 5U);
}

TEST_P(VerifyModules, NamesTheModuleAndTheStateBehindAWeightThatIsLarger) {
  const Bundle bundle = compiled(checkpoint_);
  for (const auto& [name, stored] : bundle.weights()) {
    if (name.find("encoder.layers.1.fc1.weight") == std::string::npos) continue;
    EXPECT_EQ(first({.weight = name}), "device encode-b1-s8-t16: memory_keys.0") << name;
    return;
  }
  ADD_FAILURE() << "no such weight";
}

TEST_P(VerifyModules, NamesTheModuleWhoseConstantIsAnother) {
  EXPECT_EQ(first({.constant = "prefill-b3-s24-t16"}).find("device prefill-b3-s24-t16: "), 0U);
  EXPECT_EQ(first({.constant = "decode-b3-s24-t16"}).find("device decode-b3-s24-t16: "), 0U);
}

TEST_P(VerifyModules, NamesTheModuleOfAnotherModel) {
  Json config = tiny_config();
  config["encoder_attention_heads"] = 2;
  const TinyCheckpoint other(DType::f32, config);
  const Bundle bundle = compiled(other);
  EXPECT_EQ(
      first({.other = "encode-b3-s8-t16", .bundle = &bundle}).find("device encode-b3-s8-t16: "),
      0U);
}

TEST_P(VerifyModules, NamesOutputsThatAreSwapped) {
  EXPECT_EQ(first({.swapped = true}), "device decode-b1-s24-t16: keys.0");
  EXPECT_EQ(first({.ids = "decode-b3-s24-t16"}), "device decode-b3-s24-t16: ids");
}

TEST_P(VerifyModules, TellsABundleOfOtherWeightsByTheReference) {
  const TinyCheckpoint other;
  auto tensors = tiny_tensors(tiny_config());
  Tensor& changed = tensors.at("model.decoder.layers.0.fc1.weight");
  changed = larger(changed);
  other.write(tensors);
  const VerifyReport report = verify(compiled(other), {}, true);
  std::vector<std::string> levels;
  for (const Finding& finding : report.findings) levels.push_back(finding.level);
  ASSERT_GE(levels.size(), 1U);
  EXPECT_EQ(report.findings[0].where.find("model.decoder.layers.0.fc1.weight"), 0U);
  EXPECT_EQ(std::count(levels.begin(), levels.end(), "device"), 0);
  EXPECT_EQ(std::count(levels.begin(), levels.end(), "precision"), GetParam() == DType::f32);
}

TEST_P(VerifyModules, EndsAtBytesWhereAModuleIsNone) {
  const Bundle bundle = compiled(checkpoint_);
  std::string bytes = read_file(bundle.path() / "weights.bin", 1 << 20);
  bytes[bytes.size() / 2] ^= 1;
  put_file(bundle.path() / "weights.bin", bytes);
  const VerifyReport report = verify(Bundle::open(bundle.path()));
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings[0].level, "bytes");
}

INSTANTIATE_TEST_SUITE_P(Dtypes, VerifyModules, testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace ng
