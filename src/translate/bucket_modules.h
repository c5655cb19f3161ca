// How does a module run, whose segments may be the device's and the CPU's in turn?
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "translate/bucket_columns.h"
#include "translate/buckets.h"

namespace ng {

// A loaded segment. It keeps the states that it writes and those that an earlier one keeps.
struct LoadedSegment {
  std::unique_ptr<Executable> executable;
  HostStates* states;

  bool keeps(const Port& port) const;
  Argument state(const Port& port) const;
};

// A phase's modules, the smallest first; loaded when they are needed, those that do not fit `sizes`
// refused (User).
class Modules {
 public:
  Modules(std::string phase, std::vector<Bucket> buckets, const StaticSizes& sizes,
          Executions& executions);
  const std::vector<Bucket>& buckets() const { return buckets_; }

  // The bucket of module `at`, which is loaded and fits: only now may its sizes be believed.
  const Bucket& load(size_t at);
  // Runs module `at`; `columns` holds what it reads, `results` gets what it gives, by name.
  void run(size_t at, Columns& columns, HostResults& results);

 private:
  std::string phase_;
  StaticSizes sizes_;
  std::vector<Bucket> buckets_;
  std::vector<std::vector<LoadedSegment>> loaded_;
  Executions& executions_;
};

}  // namespace ng
