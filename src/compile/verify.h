// Does a bundle compute what its checkpoint means? Six levels, each with its own errors
// (docs/verify.md).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/json.h"
#include "base/progress.h"
#include "bundle/bundle.h"
#include "compile/compile.h"
#include "translate/buckets.h"

namespace ng {

struct VerifyOptions {
  std::string target = "cpu";  // whose graphs
  int sentences = 4;
  int threads = 0;
  Path reference;  // a checkpoint directory; empty: no reference
  Path rebuilt;    // the bundle that this build makes of it with the same options
};

// One comparison that failed.
struct Finding {
  std::string level;  // bytes, build, kernel or device, precision, tokens, text
  std::string where;  // the tensor, node, module or layer
  std::string what;
};

struct VerifyReport {
  std::string device;
  std::vector<Finding> findings;                // the first is the first level and layer that fails
  uint64_t tensors = 0, nodes = 0;              // compared
  std::map<std::string, double> modules;        // that ran → max|difference| / max|interpreter's|
  Executions executions;                        // of modules
  std::map<std::string, std::string> backends;  // who ran each of these
  std::vector<std::pair<std::string, double>> precision;  // tap → max|difference| / max|reference|
  uint64_t tokens = 0, tokens_equal = 0, ties = 0;
  uint64_t texts = 0, texts_equal = 0;           // none where there is no tokenizer
  uint64_t input_tokens = 0, output_tokens = 0;  // of the sentences
  bool referenced = false;
};

// `device` is what options.target names, or one that is to be found wrong. A static
// target is compared module by module (level device), any other node by node.
VerifyReport verify_bundle(const Bundle& bundle, Device& device, const VerifyOptions& options,
                           Progress& progress);

std::string sample_text(size_t i);  // what is compared where nobody gives texts

Json to_json(const VerifyReport& report);

}  // namespace ng
