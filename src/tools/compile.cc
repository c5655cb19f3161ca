// `neuroglot compile`, `finish` and `replace-weights`: a checkpoint directory becomes a bundle.
#include "compile/compile.h"

#include "base/error.h"
#include "compile/neuron_modules.h"
#include "compile/replace_weights.h"
#include "tools/opened.h"

namespace ng {
namespace {

// What would have no effect is refused.
void check_options(const Options& options) {
  bool neuron = false, fixed = false;
  for (const std::string& name : options.targets) {
    neuron = neuron || find_backend(name).target.neuron;
    fixed = fixed || find_backend(name).target.fixed;
  }
  for (const char* flag : {"--neuronx-cc", "--emit-only", "--jobs", "--compiler-args"}) {
    check(neuron || !options.is_given(flag), "{} is of --target inf2, trn1 and trn2", flag);
  }
  check(fixed || options.shapes.empty(), "{} is of targets with fixed shapes",
        fmt::join(options.shapes, ", "));
  check(!options.emit_only || (!options.is_given("--neuronx-cc") && !options.is_given("--jobs")),
        "--emit-only compiles nothing: leave --neuronx-cc and --jobs out");
}

}  // namespace

int compile_command(const Options& options) {
  check(!options.output.empty(), "compile needs -o BUNDLE");
  check(!is_bundle(options.model), "{}: is a bundle already; give the checkpoint directory",
        options.model);
  check_options(options);
  Progress progress(options.quiet);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const CompileOptions compile_as = compile_options(options);
  compile(checkpoint, compile_as, options.output, progress);
  if (options.emit_only) {
    fmt::print("{}", neuron_commands(Bundle::open(options.output), compile_as.neuron));
  }
  return 0;
}

int replace_weights_command(const Options& options) {
  check(!is_bundle(options.checkpoint), "{}: is a bundle; give the checkpoint directory",
        options.checkpoint);
  Progress progress(options.quiet);
  replace_weights(options.model, Checkpoint::open(options.checkpoint),
                  static_cast<int>(options.threads), progress);
  return 0;
}

int finish_command(const Options& options) {
  check(!options.neffs.empty(), "finish needs --neffs DIR");
  Progress progress(options.quiet);
  finish_bundle(options.model, options.neffs, progress);
  return 0;
}

}  // namespace ng
