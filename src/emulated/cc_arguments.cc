#include "emulated/cc_arguments.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace ng {
namespace {

struct Flag {
  std::string_view name;
  std::string_view values;     // " a b ": one of these; "": any; "-": takes none
  uint32_t since = 0;          // minor version, of major 2
  std::string_view same = {};  // the flag that this is another spelling of
};

constexpr std::string_view kNone = "-";

constexpr Flag kFlags[] = {
    {"--framework", " XLA "},
    {"--target", " inf2 trn1 trn1n trn2 "},
    {"--model-type", " generic transformer unet-inference "},
    {"--auto-cast", " none matmult all "},
    {"--auto-cast-type", " bf16 fp16 tf32 fp8_e4m3 "},
    {"--native-int64", " default enabled disabled ", 27},
    {"--implicit-integer-downcast", "", 27},
    {"--distribution-strategy", " llm-training "},
    {"--logical-nc-config", " 1 2 "},
    {"-lnc", " 1 2 ", 0, "--logical-nc-config"},
    {"--lnc", " 1 2 ", 0, "--logical-nc-config"},
    {"--optlevel", " 1 2 3 "},
    {"-O", " 1 2 3 ", 0, "--optlevel"},
    {"--enable-mixed-precision-accumulation", kNone},
    {"--disable-mixed-precision-accumulation", kNone},
    {"--enable-saturate-infinity", kNone},
    {"--enable-fast-context-switch", kNone},
    {"--enable-fast-loading-neuron-binaries", kNone},
    {"--logfile", ""},
    {"--output", ""},
    {"--verbose", " info warning error critical debug 10 20 30 35 40 50 "},
    // Not documented; AWS's own wrappers pass them.
    {"--tensorizer-options", ""},
    {"--internal-hlo2tensorizer-options", ""},
    {"--hbm-scratchpad-page-size", ""},
};

template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  check(condition, "[NCC_EARG001] {}", fmt::format(format, std::forward<Args>(args)...));
}

bool is_among(std::string_view values, std::string_view value) {
  return !value.empty() && values.find(fmt::format(" {} ", value)) != values.npos;
}

const Flag& find_flag(std::string_view name, const NeuronVersion& version) {
  const auto* flag = std::find_if(std::begin(kFlags), std::end(kFlags),
                                  [&](const Flag& row) { return row.name == name; });
  const bool is_known =
      flag != std::end(kFlags) && version >= NeuronVersion{{2, flag->since, 0, 0}, ""};
  require(is_known, "unrecognized arguments: {}", shown(name));
  return *flag;
}

// `all`, `none`, `default`, or a list of operations.
bool is_downcast(std::string_view value) {
  if (is_among(" default all none ", value)) return true;
  while (!value.empty()) {
    const std::string_view op = value.substr(0, value.find(','));
    if (!is_among(" dot scatter all_reduce reduce_scatter pow ", op)) return false;
    value.remove_prefix(std::min(op.size() + 1, value.size()));
  }
  return true;
}

struct Given {
  std::map<std::string, std::string, std::less<>> values;  // the last one of a flag counts
  std::vector<std::string> models;
};

Given read_words(std::span<const std::string> words, const NeuronVersion& version) {
  Given given;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!word.starts_with('-')) {
      given.models.push_back(word);
      continue;
    }
    const bool is_short = word.size() > 2 && word.starts_with("-O");
    const size_t equals = is_short ? 2 : word.find('=');
    const Flag& flag = find_flag(word.substr(0, equals), version);
    const std::string name(flag.same.empty() ? flag.name : flag.same);
    const bool takes_value = flag.values != kNone;
    std::string value;
    if (equals != std::string::npos) {
      require(takes_value, "argument {}: takes no value", flag.name);
      value = word.substr(is_short ? 2 : equals + 1);
    } else if (takes_value) {
      require(i + 1 < words.size(), "argument {}: expected one argument", flag.name);
      value = words[++i];
    }
    require(!takes_value || flag.values.empty() || is_among(flag.values, value),
            "argument {}: invalid choice: '{}' (choose from{})", flag.name, shown(value),
            flag.values);
    given.values[name] = value;
  }
  return given;
}

}  // namespace

CcArguments read_cc_arguments(std::span<const std::string> words, const NeuronVersion& version) {
  const Given given = read_words(words, version);
  const auto value = [&](std::string_view name, std::string_view otherwise) {
    const auto place = given.values.find(name);
    return place == given.values.end() ? std::string(otherwise) : place->second;
  };
  CcArguments arguments;
  require(given.models.size() == 1, "{} model files, there must be one", given.models.size());
  require(given.values.contains("--framework"),
          "the following arguments are required: --framework");
  require(given.values.contains("--target"), "the following arguments are required: --target");
  arguments.module = given.models[0];
  arguments.target = value("--target", "");
  arguments.output = value("--output", arguments.output);
  arguments.logfile = value("--logfile", arguments.logfile);
  const bool is_v3 = arguments.target == "trn2";
  const std::string lnc = value("--logical-nc-config", is_v3 ? "2" : "1");
  require(is_v3 || lnc == "1", "--logical-nc-config {} is not possible on {}", lnc,
          arguments.target);
  arguments.lnc = lnc == "2" ? 2 : 1;
  require(is_v3 || value("--native-int64", "default") != "enabled",
          "--native-int64 enabled is not possible on {}", arguments.target);
  require(is_downcast(value("--implicit-integer-downcast", "default")),
          "argument --implicit-integer-downcast: '{}'",
          shown(value("--implicit-integer-downcast", "")));
  return arguments;
}

}  // namespace ng
