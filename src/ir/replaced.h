// How is a state named that each run replaces, where others are changed in place?
#pragma once

#include <string>
#include <string_view>

namespace ng {

// Input NAME, output NAME.next of its type: to a graph two values, of which neither is a state of
// rule V3; whoever runs it hands the output on as the next run's input. A run reads one buffer and
// writes another.
inline std::string next_of(const std::string& state) { return state + ".next"; }
inline bool is_next(std::string_view output) { return output.ends_with(".next"); }

}  // namespace ng
