// What a test tells the stand-in for a PJRT plugin (strict_pjrt.cc), and what it sees of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng::standin {

constexpr int kFunctions = 138;

struct Output {  // of every module that is compiled
  int type = 11;
  int64_t dims[4] = {};
  size_t rank = 0;
  int alias = -1;  // of this parameter
};

struct Control {
  // The version it speaks is NEURON_INTERNAL_PJRT_C_API_VERSION (0.55, 0.81, 0.104 or 0.114),
  // unless it is said here. A struct's size must be that version's; with `lenient`, at least.
  int version = 0;
  int reported = 0;  // another version in the table, to lie
  bool lenient = false;
  bool knows_device_count = true;  // the option "cpu_device_count"
  bool knows_hlo = true;           // the format "hlo"
  bool same_table = false;         // GetPjrtApi gives the one that it gave before
  bool no_statistics = false;      // UNIMPLEMENTED
  bool null_attributes = false;
  bool short_attributes = false;  // wants 24 bytes whatever its version
  int64_t alias_error = 0;        // added to alias_size_in_bytes
  Output outputs[4];
  size_t output_count = 0;

  int missing = -1;  // this function is null
  int failing = -1;  // this function's call number `failing_call` (1, 2, …) gives an error
  int failing_call = 1;
  int failing_code = 13;  // INTERNAL
  const char* failing_message = "";

  int calls[kFunctions] = {};  // of each function
  int live = 0;                // objects not destroyed
  int misuse = 0;              // destroyed twice, used after a donation, unknown objects
  int last_devices = 0;        // of the last execution
  char last_format[8] = {};    // of the last compilation
};

// The library exports `Control* standin_control()`.
using GetControl = Control* (*)();

}  // namespace ng::standin
