// How does a bundle get the weights of another checkpoint of the same shape, nothing recompiled?
#pragma once

#include "compile/compile.h"

namespace ng {

// The bundle that compile makes of the checkpoint with the options that `bundle` was made with, in
// its place, complete or not at all; the NEFFs are kept. User: the checkpoint is of another shape,
// which is named; this build makes other artifacts than the one that made the bundle.
void replace_weights(const Path& bundle, const Checkpoint& checkpoint, int threads,
                     Progress& progress);

// The artifacts, and what `manifest` says of modules, are the bundle's: else User, naming the first
// value of config.json that makes a difference.
void check_same(const Bundle& bundle, const Artifacts& artifacts, const Json& manifest);

}  // namespace ng
