// Devices that watch another device while a session runs on it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/reference/reference.h"
#include "base/thread_pool.h"
#include "bundle/static_sizes.h"

namespace ng {

// One run's outputs that match `wanted`, by name.
using Recorded = std::map<std::string, Tensor>;

// Runs on `inner` and keeps, run by run, the outputs for which wanted(name) holds, whether or not
// the session asks for them.
class RecordingDevice : public Device {
 public:
  RecordingDevice(Device& inner, std::function<bool(const std::string& name)> wanted)
      : inner_(inner), wanted_(std::move(wanted)) {}
  std::unique_ptr<Executable> load(std::string_view artifact, const WeightSource& weights) override;
  std::string description() const override { return inner_.description(); }

  std::vector<Recorded> runs;

 private:
  Device& inner_;
  std::function<bool(const std::string& name)> wanted_;
};

bool is_tap(const std::string& name);  // encoder.N, hidden, decoder.N, logits

// For every tap that `expected` has, in the order of the computation, the largest difference of any
// run, of the largest expected value; infinite where `found` has no such tap of that type.
std::vector<std::pair<std::string, double>> compare_runs(const std::vector<Recorded>& found,
                                                         const std::vector<Recorded>& expected);

// A node whose result on the device is not the interpreter's on the same inputs.
struct Difference {
  std::string phase, node;  // "%17 linear", after the last layer's name
  uint64_t element = 0;
  float device = 0, interpreter = 0;
};

// Loads every graph so that each node's result can be read, and after every run interprets node by
// node on the inputs that the device itself produced. Any byte that differs is a difference.
class CheckingDevice : public Device {
 public:
  CheckingDevice(Device& inner, ThreadPool& threads) : inner_(inner), threads_(threads) {}
  std::unique_ptr<Executable> load(std::string_view artifact, const WeightSource& weights) override;
  std::string description() const override { return inner_.description(); }

  std::vector<Difference> differences;
  uint64_t nodes_checked = 0;

 private:
  Device& inner_;
  ThreadPool& threads_;
};

// A device for modules of static targets whose numerics are the interpreter's.
class ModuleInterpreter : public Device {
 public:
  explicit ModuleInterpreter(ThreadPool& threads) : threads_(threads) {}
  std::unique_ptr<Executable> load(std::string_view artifact, const WeightSource& weights) override;
  std::string description() const override { return "interpreter"; }
  Tensor state(const std::string& name) override { return states_.at(name); }

 private:
  friend class ModuleChecker;
  ThreadPool& threads_;
  HeldStates states_;
};

// Runs modules on `inner` and, on the inputs and states that it had, by the interpreter; compares
// outputs and states after each run, but for rows that nobody asked for, which write to the sink,
// and for what is banned on both sides.
class ModuleChecker : public Device {
 public:
  ModuleChecker(Device& inner, ThreadPool& threads, double tolerance, const StaticSizes& sizes)
      : inner_(inner), interpreter_(threads), tolerance_(tolerance), sizes_(sizes) {}
  std::unique_ptr<Executable> load(std::string_view artifact, const WeightSource& weights) override;
  std::string description() const override { return inner_.description(); }

  std::vector<Difference> differences;    // the first of each module and output
  std::map<std::string, double> modules;  // that ran: the largest relative deviation

 private:
  class Module;
  Device& inner_;
  ModuleInterpreter interpreter_;
  const double tolerance_;
  const StaticSizes sizes_;
};

}  // namespace ng
