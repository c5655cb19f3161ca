// M2M-100 and NLLB-200: one family, different sizes.
#pragma once

#include "models/m2m100_config.h"
#include "models/model.h"

namespace ng {

// One of kPhases.
Graph build_m2m100(const M2M100Config& config, std::string_view phase, const Sizes& sizes);

// Without names of weights in a checkpoint. `what` names the configuration in errors (User).
Model describe_m2m100(const Json& config, std::string_view what);

Model open_m2m100(const Checkpoint& checkpoint);

}  // namespace ng
