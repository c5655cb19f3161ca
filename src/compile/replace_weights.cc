#include "compile/replace_weights.h"

#include "base/error.h"
#include "ir/text.h"

namespace ng {
namespace {

// The options that give the bundle's modules.
StaticOptions options_of(const Bundle& bundle) {
  StaticOptions options;
  options.batches.clear();
  options.source_lengths.clear();
  for (const Bundle::Module& module : bundle.modules()) {
    options.with_logits |= module.phase == "logits";
    if (module.phase != "encode") continue;
    options.batches.push_back(module.sentences);
    options.source_lengths.push_back(module.rows);
  }
  options.beams = bundle.sizes().beams;
  options.target_length = bundle.sizes().target;
  options.reorder = bundle.sizes().reorder != 0;
  options.device_candidates = bundle.sizes().candidates > 0;
  options = checked(options);
  check(plan_modules(options).size() == bundle.modules().size(),
        "{}: its modules are not such as compile makes: it is damaged", bundle.path().string());
  return options;
}

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
  CompileOptions options;
  options.targets = bundle.targets();
  options.dtype = bundle.dtype();
  if (!bundle.modules().empty()) options.modules = options_of(bundle);
  options.force = true;
  options.threads = threads;
  options.kept = &bundle;
  compile(checkpoint, options, path, progress);
}

}  // namespace ng
