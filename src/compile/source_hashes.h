// What do a checkpoint's source files hash to, without reading again what did not change?
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"

namespace ng {

// SHA-256 by name. `index` (a JSON file, made when missing) remembers the hash of a file by path,
// device, inode, size and modification time in nanoseconds; files that changed less than two
// seconds before they were read are not remembered. Safe with other processes.
std::map<std::string, std::string> source_hashes(const std::vector<Checkpoint::Source>& sources,
                                                 const Path& index, Progress& progress);

}  // namespace ng
