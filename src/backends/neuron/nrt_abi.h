// The part of libnrt's C interface that we call, as far as its values and layouts are published
// (AWS Neuron SDK 2.32, src/libnrt/include; ELF version NRT_2.0.0). Our own declarations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng::nrt {

using Status = int32_t;
inline constexpr Status kSuccess = 0, kInvalid = 2, kInvalidHandle = 3, kResource = 4, kTimeout = 5,
                        kUnsupportedNeff = 10, kHostMemory = 11, kUninitialized = 13, kClosed = 14,
                        kBadInput = 1002, kNumericalError = 1003, kOutOfBounds = 1006;

struct Model;   // opaque
struct Buffer;  // nrt_tensor_t
struct Set;     // nrt_tensor_set_t

inline constexpr int32_t kNoFramework = 1;  // NRT_FRAMEWORK_TYPE_NO_FW
inline constexpr int32_t kOnDevice = 0;     // NRT_TENSOR_PLACEMENT_DEVICE
inline constexpr int32_t kInput = 0, kOutput = 1;
inline constexpr uint32_t kBf16 = 6, kS32 = 8, kF32 = 10;

struct TensorInfo {
  char name[256];
  int32_t usage;
  size_t size;
  uint32_t dtype;  // not set for all tensors: sizes are what is compared
  uint32_t* shape;
  uint32_t rank;
};
static_assert(sizeof(TensorInfo) == 296 && offsetof(TensorInfo, size) == 264 &&
              offsetof(TensorInfo, shape) == 280);

struct TensorInfos {  // followed by `count` TensorInfo
  uint64_t count;
  const TensorInfo* begin() const { return reinterpret_cast<const TensorInfo*>(this + 1); }
};

struct Version {
  uint64_t major, minor, patch, maintenance;
  char detail[128];
  char hash[64];
};

struct MemoryStats {
  size_t used, limit;
};

}  // namespace ng::nrt
