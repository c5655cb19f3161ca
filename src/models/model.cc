#include "models/model.h"

#include "base/error.h"
#include "models/m2m100.h"

namespace ng {
namespace {

struct Family {
  std::string_view model_type;
  Model (*open)(const Checkpoint&);
  Model (*describe)(const Json& config, std::string_view what);
};
constexpr Family kFamilies[] = {{"m2m_100", open_m2m100, describe_m2m100}};

const Family& family_of(const Json& config, const std::string& what) {
  const std::string type = json_string(config, "model_type", "", what);
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == type) return family;
    known += fmt::format(" \"{}\"", family.model_type);
  }
  fail("{}: model_type \"{}\" is not supported; supported are:{}", what, shown(type), known);
}

}  // namespace

Model open_model(const Checkpoint& checkpoint) {
  const std::string what = (checkpoint.path() / "config.json").string();
  Model model = family_of(checkpoint.config(), what).open(checkpoint);
  checkpoint.check_copies();  // last: it reads what the names and shapes allow
  return model;
}

Model describe_model(const Json& config, const std::string& what) {
  return family_of(config, what).describe(config, what);
}

}  // namespace ng
