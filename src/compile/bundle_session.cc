#include "compile/bundle_session.h"

#include "base/error.h"
#include "compile/compile.h"

namespace ng {

std::unique_ptr<Session> open_session(const Bundle& bundle, const std::string& target,
                                      Device& device, Executions& executions) {
  const WeightSource weights = [&bundle](const std::string& name) { return bundle.weight(name); };
  if (!find_backend(target).target.fixed) {
    const auto artifact = [&bundle, target](const auto& phase) {
      return checked_artifact(bundle, phase, target);
    };
    return std::make_unique<Session>(
        Phases{bundle.facts().vocabulary, bundle.facts().pad, artifact, weights}, device);
  }
  StaticPhases phases{bundle.facts().vocabulary, bundle.facts().pad, bundle.sizes(), false, {}};
  for (const Bundle::Module& module : bundle.modules()) {
    phases.logits = phases.logits || module.phase == "logits";
  }
  const auto regions = std::make_shared<BeamRegions>();
  phases.load = [&bundle, target, &device, &executions, weights,
                 regions](const std::string& phase) {
    std::vector<Bucket> buckets;
    for (const Bundle::Module& module : bundle.modules()) {
      if (module.phase != phase) continue;
      buckets.push_back({module.name, module.sentences, module.rows,
                         [&bundle, target, &device, weights, name = module.name] {
                           return device.load(bundle.module(name, target), weights);
                         }});
    }
    check(!buckets.empty(), "{}: has no modules for {}: it is damaged", bundle.path().string(),
          phase);
    return bucketed(phase, std::move(buckets), bundle.sizes(), executions, *regions);
  };
  return std::make_unique<Session>(std::move(phases));
}

}  // namespace ng
