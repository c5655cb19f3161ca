// Devices that watch another device while a session runs on it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "base/thread_pool.h"

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

}  // namespace ng
