#include "compile/bundle_session.h"

#include <algorithm>

#include "base/error.h"
#include "compile/compile.h"

namespace ng {
namespace {

// What the phases of a session share.
struct Shared {
  const Bundle& bundle;
  const std::string target;
  const SessionDevices devices;
  Executions& executions;
  BeamRegions regions;
  HostStates states;

  std::unique_ptr<Executable> load(const Bundle::Module& module) const {
    const WeightSource weights = [&b = bundle](const auto& name) { return b.weight(name); };
    NG_CHECK(!module.cpu || devices.cpu != nullptr, "no CPU for {}", module.name);
    Device& device = module.cpu ? *devices.cpu : devices.device;
    return device.load(checked_module(bundle, module, target), weights);
  }
};

std::unique_ptr<Executable> load_phase(Shared& shared, const std::string& phase) {
  std::vector<Bucket> buckets;
  for (const Bundle::Module& module : shared.bundle.modules()) {
    if (module.phase != phase) continue;
    if (buckets.empty() || buckets.back().name != module.part_of) {
      buckets.push_back({module.part_of, module.sentences, module.rows, {}});
    }
    buckets.back().segments.push_back({module.name,
                                       [&shared, &module] { return shared.load(module); },
                                       module.cpu ? &shared.states : nullptr});
  }
  check(!buckets.empty(), "{}: has no modules for {}: it is damaged", shared.bundle.path().string(),
        phase);
  return bucketed(phase, std::move(buckets), shared.bundle.sizes(), shared.executions,
                  shared.regions);
}

}  // namespace

std::unique_ptr<Session> open_session(const Bundle& bundle, const std::string& target,
                                      SessionDevices devices, Executions& executions) {
  if (!find_backend(target).target.fixed) {
    const auto artifact = [&bundle, target](const auto& phase) {
      return checked_artifact(bundle, phase, target);
    };
    const WeightSource weights = [&bundle](const std::string& name) { return bundle.weight(name); };
    return std::make_unique<Session>(
        Phases{bundle.facts().vocabulary, bundle.facts().pad, artifact, weights}, devices.device);
  }
  StaticPhases phases{bundle.facts().vocabulary, bundle.facts().pad, bundle.sizes(), false, {}};
  for (const Bundle::Module& module : bundle.modules()) {
    phases.logits = phases.logits || module.phase == "logits";
  }
  const auto shared = std::make_shared<Shared>(Shared{bundle, target, devices, executions, {}, {}});
  phases.load = [shared](const std::string& phase) { return load_phase(*shared, phase); };
  return std::make_unique<Session>(std::move(phases));
}

std::unique_ptr<Device> open_cpu_of(const Bundle& bundle, const std::string& target, int threads) {
  if (!find_backend(target).target.fixed) return nullptr;
  if (std::ranges::none_of(bundle.modules(), &Bundle::Module::cpu)) return nullptr;
  return find_backend("cpu").open({.threads = threads});
}

}  // namespace ng
