#include "models/model.h"

#include "base/error.h"
#include "models/m2m100.h"

namespace ng {
namespace {

struct Family {
  std::string_view model_type;
  Model (*open)(const Checkpoint&);
};
constexpr Family kFamilies[] = {{"m2m_100", open_m2m100}};

}  // namespace

Model open_model(const Checkpoint& checkpoint) {
  const std::string what = (checkpoint.path() / "config.json").string();
  const std::string type = json_string(checkpoint.config(), "model_type", "", what);
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == type) {
      Model model = family.open(checkpoint);
      checkpoint.check_copies();  // last: it reads what the names and shapes allow
      return model;
    }
    known += fmt::format(" \"{}\"", family.model_type);
  }
  fail("{}: model_type \"{}\" is not supported; supported are:{}", what, shown(type), known);
}

}  // namespace ng
