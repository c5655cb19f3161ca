// How is a session of a bundle opened on a device?
#pragma once

#include <memory>

#include "bundle/bundle.h"
#include "translate/buckets.h"
#include "translate/session.h"

namespace ng {

struct SessionDevices {
  Device& device;
  Device* cpu = nullptr;  // for a static target's segments on the CPU, where the bundle has some
};

// A phase's graph, or a static target's modules when they are needed. All must outlive the session;
// `executions` counts the runs of modules and segments. A session has states of its own on the CPU.
std::unique_ptr<Session> open_session(const Bundle& bundle, const std::string& target,
                                      SessionDevices devices, Executions& executions);

// A CPU for the target's segments; null where it has none.
std::unique_ptr<Device> open_cpu_of(const Bundle& bundle, const std::string& target, int threads);

}  // namespace ng
