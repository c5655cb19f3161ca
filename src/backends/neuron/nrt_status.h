// What do libnrt's statuses mean, and what is done about each?
#pragma once

#include <span>
#include <string_view>

#include "backends/neuron/nrt_abi.h"

namespace ng::nrt {

// retry: the call is made again after a pause, at most kTries times. request: this call fails,
// later ones may succeed. restart: the device is lost to this process.
enum class Policy : uint8_t { retry, request, restart };
inline constexpr int kTries = 10;  // pauses of 1, 2, 4, … ms: half a second

inline constexpr std::string_view kUpdateRuntime =
    "the runtime is the older: sudo apt-get update && sudo apt-get install --only-upgrade "
    "aws-neuronx-runtime-lib aws-neuronx-collectives";

struct StatusRow {
  Status status;
  std::string_view name;
  Policy policy;
  std::string_view advice;  // for people; may be empty
};
std::span<const StatusRow> statuses();            // all but success
const StatusRow& describe_status(Status status);  // unknown ones: request

}  // namespace ng::nrt
