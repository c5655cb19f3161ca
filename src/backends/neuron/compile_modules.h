// How do HLO modules become NEFFs: several compilers at once, nothing compiled twice?
//
// The cache, NEUROGLOT_HOME's `neffs` unless told otherwise, is a DiskCache. A KEY is a SHA-256 of
// the module's bytes, the flags without paths, the compiler's version and the target. An entry
// holds
//   module.neff     and module.neff.sha256, which is compared whenever the entry is taken
//   command.txt     the words that made it
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "backends/neuron/compiler.h"
#include "backends/neuron/neff.h"
#include "base/disk_cache.h"
#include "base/progress.h"

namespace ng {

struct CompileJob {
  std::string name;
  std::string hlo;  // a serialised HloModuleProto, as the emitter makes it: always the same bytes
  NeuronPhase phase = NeuronPhase::encode;
};

inline constexpr uint64_t kNeffCacheBytes = uint64_t{20} << 30;

struct CompileSettings {
  NeuronCompiler compiler;
  const NeuronTarget* target = nullptr;
  int lnc = 0;                     // 0: the target's own
  std::vector<std::string> extra;  // words of --compiler-args
  Path cache;                      // empty: cache_root() / "neffs"
  uint64_t cache_bytes = kNeffCacheBytes;
  int jobs = 1;                                               // compilers at a time
  std::chrono::milliseconds timeout = std::chrono::hours(3);  // a module
  std::stop_token stop;
};

struct CompiledModule {
  std::string name;
  Path neff;
  std::shared_ptr<const FileLock> in_use;  // while it is held, nobody removes the NEFF
  NeffHeader header;
};

// In the order of the jobs. Safe with other processes, which wait for each other's modules, and
// when one is killed at any point. After a module has failed, those under way are finished (the
// cache keeps them) and no other begins; then Device, with the module's name, the command and the
// compiler's last lines. Told to stop: ends all compilers, then Device.
std::vector<CompiledModule> compile_modules(std::span<const CompileJob> jobs,
                                            const CompileSettings& settings, Progress& progress);

// A guess from what is published: 15 to 20 minutes a module of T5-3B (24 layers; SDK, T5 tutorial),
// 108 s for a model of 564M (24 narrow layers; NxDI contrib, xglm): time goes with the module's
// instructions more than with its weights, so with its bytes: 1 minute and 17 for every 384 KiB (24
// layers at 16 KiB). Memory is not published: 4 GiB and 12 for every 384 KiB.
struct CompileEstimate {
  double minutes = 0;   // all together, `at_once` at a time
  uint64_t memory = 0;  // of the `at_once` largest
};
CompileEstimate estimate_compilation(std::span<const CompileJob> jobs, int at_once);

}  // namespace ng
