// How is a PJRT plugin driven through its C API, without its header?
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace ng::tracer {

// A plugin and its first device. Plugins are never closed: they own threads. Device errors carry
// the plugin's message.
class Pjrt {
 public:
  struct Free {
    const Pjrt* pjrt;
    void operator()(void* buffer) const;
  };
  using Buffer = std::unique_ptr<void, Free>;

  // A compiled module.
  struct Loaded {
    void* executable = nullptr;
    size_t outputs = 0;
    int64_t argument_bytes = 0, alias_bytes = 0, temporary_bytes = 0;  // what the plugin says
  };

  explicit Pjrt(const std::string& library);
  ~Pjrt();
  Pjrt(const Pjrt&) = delete;
  Pjrt& operator=(const Pjrt&) = delete;

  Loaded compile(const std::string& hlo_module) const;
  void destroy(Loaded& loaded) const;

  Buffer upload(const Type& type, const void* data) const;  // f32 or s32, row-major
  std::vector<std::byte> download(void* buffer, const Type& type) const;
  // Waits. Inputs that the module aliases are consumed: is_deleted() then, still to be freed.
  std::vector<Buffer> execute(const Loaded& loaded, std::span<void* const> arguments) const;
  bool is_deleted(void* buffer) const;
  uintptr_t address(void* buffer) const;  // of its bytes

  std::string description() const;  // platform, API version

 private:
  template <class Args>
  void call(int slot, Args& args) const;
  void wait(void* event) const;

  const char* api_ = nullptr;
  void* client_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace ng::tracer
