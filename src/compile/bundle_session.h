// How is a session of a bundle opened on a device?
#pragma once

#include <memory>

#include "bundle/bundle.h"
#include "translate/buckets.h"
#include "translate/session.h"

namespace ng {

// A phase's graph, or a static target's modules when they are needed. All must outlive the session;
// `executions` counts the modules' runs.
std::unique_ptr<Session> open_session(const Bundle& bundle, const std::string& target,
                                      Device& device, Executions& executions);

}  // namespace ng
