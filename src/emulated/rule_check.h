// What do the rules look at? A module with its instructions by id, and the list of violations.
#pragma once

#include <hlo.pb.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "emulated/neuron_rules.h"

namespace ng {

// XLA's numbers of element types.
enum ElementType : int32_t {
  kPred = 1,
  kS8 = 2,
  kS32 = 4,
  kS64 = 5,
  kU8 = 6,
  kU32 = 8,
  kU64 = 9,
  kF16 = 10,
  kF32 = 11,
  kF64 = 12,
  kTuple = 13,
  kC64 = 15,
  kBf16 = 16,
  kC128 = 18,
  kF8E4M3FN = 20,
  kF8E4M3B11FNUZ = 23,
  kF8E5M2FNUZ = 24,
  kF8E4M3FNUZ = 25,
};

inline bool is_float(int32_t type) { return type == kF32 || type == kBf16 || type == kF16; }
inline bool is_integer(int32_t type) { return type != kTuple && type != kPred && !is_float(type); }

class RuleCheck {
 public:
  explicit RuleCheck(const hlo::Module& checked) : module(checked) {}

  const hlo::Module& module;
  std::map<int64_t, const hlo::Instruction*> instructions;  // filled in order: what came before
  std::map<int64_t, const hlo::Computation*> computations;
  std::vector<Violation> found;

  // Adds a violation unless `condition` holds; "{}" in `format` stand for `args`.
  template <class... Args>
  void require(bool condition, NeuronRule rule, std::string_view where,
               fmt::format_string<Args...> format, Args&&... args) {
    if (condition || found.size() >= kViolations) return;
    found.push_back({rule, shown(where), fmt::format(format, std::forward<Args>(args)...)});
  }

  // Null where there is none.
  const hlo::Instruction* operand(const hlo::Instruction& of, int index) const {
    if (index >= of.operand_ids_size()) return nullptr;
    const auto place = instructions.find(of.operand_ids(index));
    return place == instructions.end() ? nullptr : place->second;
  }
  const hlo::Computation* called(const hlo::Instruction& by) const {
    if (by.called_computation_ids_size() == 0) return nullptr;
    const auto place = computations.find(by.called_computation_ids(0));
    return place == computations.end() ? nullptr : place->second;
  }
};

inline bool same_array(const hlo::Shape& a, const hlo::Shape& b) {
  return a.element_type() == b.element_type() &&
         std::equal(a.dimensions().begin(), a.dimensions().end(), b.dimensions().begin(),
                    b.dimensions().end());
}

void check_shape(RuleCheck& check, const hlo::Shape& shape, std::string_view where);
void check_instruction(RuleCheck& check, const hlo::Instruction& instruction);
void check_entry(RuleCheck& check, const hlo::Computation& entry);  // its inputs and outputs

}  // namespace ng
