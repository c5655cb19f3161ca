#include "compile/replace_weights.h"

#include "base/error.h"
#include "ir/text.h"

namespace ng {
namespace {

// All that a configuration decides of artifacts.
std::string outline(const Json& config) {
  const Model model = describe_model(config, "config.json");
  std::string text = fmt::format("{} {}\n", model.pad, model.eos.size());
  for (const std::string_view phase : kPhases) text += print(model.build(phase, capacities(model)));
  return text;
}

// Whether `config` with the other's value of `key` is another model.
bool matters(Json config, const std::string& key, const Json& other) {
  const std::string before = outline(config);
  config.erase(key);
  if (other.contains(key)) config[key] = other[key];
  try {
    return outline(config) != before;
  } catch (const Error&) {  // a size that does not go with the others
    return true;
  }
}

// The first thing that differs; empty: nothing.
std::string difference(const Bundle& bundle, const Artifacts& artifacts, const Json& manifest) {
  for (const char* key : {"sizes", "modules"}) {
    if (manifest.value(key, Json()) != bundle.manifest().value(key, Json())) return key;
  }
  for (const auto& [target, files] : artifacts) {
    for (const auto& [name, bytes] : files) {
      const std::string file = bundle.file_of(name, target);
      if (!bundle.has_file(file) || bundle.file(file) != bytes) return file;
    }
  }
  return "";
}

}  // namespace

void check_same(const Bundle& bundle, const Artifacts& artifacts, const Json& manifest) {
  const std::string what = difference(bundle, artifacts, manifest);
  if (what.empty()) return;
  const Json &before = bundle.config(), &after = manifest.at("config");
  Json keys = before;
  keys.update(after);
  for (const auto& [key, value] : keys.items()) {
    const Json was = before.value(key, Json()), is = after.value(key, Json());
    check(was == is || !matters(before, key, after),
          "config.json: \"{}\" is {}, {} was made for {}: compile the checkpoint into a bundle of "
          "its own",
          shown(key), shown(is.dump()), bundle.path().string(), shown(was.dump()));
  }
  fail(
      "{}: another build of neuroglot made it, this one makes other {} of the same config.json: "
      "compile the checkpoint into a bundle",
      bundle.path().string(), what);
}

void replace_weights(const Path& path, const Checkpoint& checkpoint, int threads,
                     Progress& progress) {
  const Bundle bundle = Bundle::open(path);
  CompileOptions options = options_of(bundle);
  std::set<std::string> whole;
  for (const Bundle::Module& module : bundle.modules()) whole.insert(module.part_of);
  check(whole.empty() || plan_modules(options.modules).size() == whole.size(),
        "{}: its modules are not such as compile makes: it is damaged", path.string());
  options.neuron.emit_only = false;
  options.force = true;
  options.threads = threads;
  options.kept = &bundle;
  compile(checkpoint, options, path, progress);
}

}  // namespace ng
