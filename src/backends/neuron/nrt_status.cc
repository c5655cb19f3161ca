#include "backends/neuron/nrt_status.h"

#include <algorithm>
#include <iterator>

namespace ng::nrt {
namespace {

constexpr std::string_view kRestart = "start the program again; `neuron-ls` and dmesg say more";
constexpr std::string_view kMemory =
    "the device has too little memory left: compile with fewer --batch or --beams, a shorter "
    "--target-length, or --dtype bf16";

// Values and names: SDK, nrt_status.h. Policies: its troubleshooting page says which errors leave a
// core unusable (6, 101, 1200 to 1206); the others are our reading.
constexpr StatusRow kRows[] = {
    {1, "NRT_FAILURE", Policy::request, "a NEFF for another kind of instance fails in this way"},
    {kInvalid, "NRT_INVALID", Policy::request, ""},
    {kInvalidHandle, "NRT_INVALID_HANDLE", Policy::request, ""},
    {kResource, "NRT_RESOURCE", Policy::request, kMemory},
    {5, "NRT_TIMEOUT", Policy::restart, "NEURON_RT_EXEC_TIMEOUT sets how long a run may take"},
    {6, "NRT_HW_ERROR", Policy::restart, kRestart},
    {7, "NRT_QUEUE_FULL", Policy::retry, "another user of this core fills its queue"},
    {9, "NRT_LOAD_NOT_ENOUGH_NC", Policy::request,
     "other processes hold the cores: end them, or see NEURON_RT_VISIBLE_CORES"},
    {kUnsupportedNeff, "NRT_UNSUPPORTED_NEFF_VERSION", Policy::request, kUpdateRuntime},
    {kHostMemory, "NRT_FAIL_HOST_MEM_ALLOC", Policy::request,
     "the host has too little memory left"},
    {kUninitialized, "NRT_UNINITIALIZED", Policy::restart, kRestart},
    {kClosed, "NRT_CLOSED", Policy::restart, kRestart},
    {15, "NRT_QUEUE_EMPTY", Policy::request, ""},
    {101, "NRT_EXEC_UNIT_UNRECOVERABLE", Policy::restart, kRestart},
    {kBadInput, "NRT_EXEC_BAD_INPUT", Policy::request, ""},
    {kNumericalError, "NRT_EXEC_COMPLETED_WITH_NUM_ERR", Policy::request,
     "a result is NaN: compare with --device cpu"},
    {1004, "NRT_EXEC_COMPLETED_WITH_ERR", Policy::request, ""},
    {1005, "NRT_EXEC_NC_BUSY", Policy::retry, "another user keeps this core busy"},
    {kOutOfBounds, "NRT_EXEC_OOB", Policy::request, "an index left its table"},
    {1100, "NRT_COLL_PENDING", Policy::retry, ""},
    {1200, "NRT_EXEC_HW_ERR_COLLECTIVES", Policy::restart, kRestart},
    {1201, "NRT_EXEC_HW_ERR_HBM_UE", Policy::restart, kRestart},
    {1202, "NRT_EXEC_HW_ERR_NC_UE", Policy::restart, kRestart},
    {1203, "NRT_EXEC_HW_ERR_DMA_ABORT", Policy::restart, kRestart},
    {1204, "NRT_EXEC_SW_NQ_OVERFLOW", Policy::restart, kRestart},
    {1205, "NRT_EXEC_HW_ERR_REPAIRABLE_HBM_UE", Policy::restart, kRestart},
    {1206, "NRT_NETWORK_PROXY_FAILURE", Policy::restart, kRestart},
};
constexpr StatusRow kUnknown = {-1, "a status that is not known", Policy::request, ""};

}  // namespace

std::span<const StatusRow> statuses() { return kRows; }

const StatusRow& describe_status(Status status) {
  const auto* found = std::find_if(std::begin(kRows), std::end(kRows),
                                   [&](const StatusRow& row) { return row.status == status; });
  return found == std::end(kRows) ? kUnknown : *found;
}

}  // namespace ng::nrt
