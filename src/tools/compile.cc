// `neuroglot compile`: a checkpoint directory becomes a bundle.
#include "compile/compile.h"

#include "base/error.h"
#include "tools/opened.h"

namespace ng {

int compile_command(const Options& options) {
  check(!options.output.empty(), "compile needs -o BUNDLE");
  check(!is_bundle(options.model), "{}: is a bundle already; give the checkpoint directory",
        options.model);
  Progress progress(options.quiet);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  compile(checkpoint, compile_options(options), options.output, progress);
  return 0;
}

}  // namespace ng
