#include "backends/pjrt/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <string_view>

#include "base/error.h"

namespace ng::pjrt {
namespace {

// The newest version that libneuronxla 3.0 speaks (ZML's platforms/neuron, 2026).
constexpr int kNeuronMinor = 104;
constexpr const char* kNeuronVariable = "NEURON_INTERNAL_PJRT_C_API_VERSION";

bool speaks(int minor) { return minor >= kOldestMinor && minor != kOddMinor; }

// The version that Neuron's plugin is asked for, through the environment: it reads it when loaded.
int agree_with_neuron() {
  ::setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "0", 1);  // as backends/neuron/nrt.cc does
  const char* set = std::getenv(kNeuronVariable);
  if (set == nullptr) {
    ::setenv(kNeuronVariable, fmt::format("0.{}", kNeuronMinor).c_str(), 1);
    return kNeuronMinor;
  }
  const std::string_view text = set;
  int minor = 0;
  const bool known = text.starts_with("0.") &&
                     std::from_chars(text.data() + 2, text.data() + text.size(), minor).ptr ==
                         text.data() + text.size() &&
                     speaks(minor) && minor <= kNewestMinor;
  check(known, "{} is \"{}\": it must be 0.{} to 0.{} and not 0.{}; unset, it is 0.{}",
        kNeuronVariable, shown(text), kOldestMinor, kNewestMinor, kOddMinor, kNeuronMinor);
  return minor;
}

template <class T>
T read(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

void Release::operator()(void* object) const noexcept {
  ObjectArgs args;
  args.object = object;
  plugin->stamp(args);
  plugin->free_error(plugin->invoke(destroy->slot, &args));
}

Plugin::Plugin(const std::string& library) : library_(shown(library, 400)) {
  load(library);
  const int major = read<int>(api_ + kMajorAt);
  own_minor_ = read<int>(api_ + kMinorAt);
  if (major != 0 || !speaks(own_minor_)) {
    fail(fmt::format("it speaks PJRT {}.{}; known are 0.{} and newer, without 0.{}", major,
                     own_minor_, kOldestMinor, kOddMinor));
  }
  if (neuron_) minor_ = std::min(minor_, own_minor_);
  check_functions();
  initialize();
  read_attributes();
}

void Plugin::load(const std::string& library) {
  std::error_code unreadable;
  const std::filesystem::path path = std::filesystem::absolute(library, unreadable);
  if (library.empty() || unreadable || !std::filesystem::exists(path, unreadable)) {
    fail("there is no such file");
  }
  neuron_ = path.filename().string().find("neuronpjrt") != std::string::npos;
  if (neuron_) minor_ = agree_with_neuron();
  ::setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0);  // or XLA writes to stderr
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail(fmt::format("it cannot be loaded: {}", shown(::dlerror(), 400)));
  void* symbol = ::dlsym(handle, "GetPjrtApi");
  if (symbol == nullptr) fail("it is no PJRT plugin: it has no GetPjrtApi");
  api_ = static_cast<const char*>(reinterpret_cast<const void* (*)()>(symbol)());
  if (api_ == nullptr || read<size_t>(api_) < kFunctionsAt) fail("GetPjrtApi gives no functions");
}

void Plugin::check_functions() const {
  const auto require = [&](const auto&... functions) {
    const auto one = [&](const auto& function) {
      if (find(function.slot) == nullptr) fail(fmt::format("it lacks {}", function.name));
    };
    (one(functions), ...);
  };
  require(kErrorDestroy, kErrorMessage, kErrorGetCode, kPluginInitialize, kEventDestroy,
          kEventAwait, kClientCreate, kClientDestroy, kPlatformName, kPlatformVersion,
          kClientDevices, kCompile, kFromHost, kExecutableDestroy, kNumOutputs, kLoadedDestroy,
          kGetExecutable, kLoadedDevices, kExecute, kBufferDestroy, kToHost);
}

void Plugin::initialize() const {
  static std::mutex mutex;
  static std::set<const void*> initialized;
  const std::lock_guard lock(mutex);
  if (initialized.contains(api_)) return;
  NoArgs args;
  call(kPluginInitialize, args);
  initialized.insert(api_);
}

// Neuron's plugins were seen to want 24 bytes here in versions where the header says 32, and to
// give null.
void Plugin::read_attributes() {
  PluginAttributesArgs args;
  try {
    if (!call_if_there(kPluginAttributes, args)) return;
  } catch (const Error& error) {
    if (std::string_view(error.what()).find("size") == std::string_view::npos) throw;
    args = {};
    args.head.struct_size = size_in<PluginAttributesArgs>(kOldestMinor);
    check_failure(kPluginAttributes.name, invoke(kPluginAttributes.slot, &args));
  }
  for (size_t i = 0; args.attributes != nullptr && i < args.count; ++i) {
    const NamedValue& one = args.attributes[i];
    if (one.name == nullptr || one.kind != NamedValue::kInt64List || one.value_size != 3) continue;
    if (std::string_view(one.name, one.name_size) != "stablehlo_current_version") continue;
    if (one.numbers == nullptr) continue;
    stablehlo_ = fmt::format("{}.{}.{}", one.numbers[0], one.numbers[1], one.numbers[2]);
  }
}

Plugin::Pointer Plugin::find(int slot) const {
  const size_t at = kFunctionsAt + sizeof(void*) * static_cast<size_t>(slot);
  // The table of 0.55 understates itself by four functions.
  const size_t understated = own_minor_ == kOldestMinor ? 4 * sizeof(void*) : 0;
  const bool there = at + sizeof(void*) <= read<size_t>(api_) + understated;
  return there ? read<Pointer>(api_ + at) : nullptr;
}

Handle Plugin::own(const Function<ObjectArgs>& destroy, void* object, const char* maker) const {
  if (object == nullptr) fail(fmt::format("{} gave nothing", maker));
  return Handle(object, Release{this, &destroy});
}

void Plugin::wait(void* event) const {
  if (event == nullptr) return;
  const Handle owned = own(kEventDestroy, event, "");
  ObjectArgs args;
  args.object = event;
  call(kEventAwait, args);
}

void Plugin::fail(const std::string& message) const {
  throw Error(Error::Kind::Device, fmt::format("PJRT plugin {}: {}", library_, message));
}

bool Plugin::check_failure(const char* function, void* error, bool optional) const {
  if (error == nullptr) return true;
  const std::unique_ptr<void, std::function<void(void*)>> freed(
      error, [this](void* one) { free_error(one); });
  ErrorCodeArgs code;
  code.error = error;
  stamp(code);
  free_error(invoke(kErrorGetCode.slot, &code));
  if (optional && code.code == kUnimplemented) return false;
  ListArgs text;
  text.object = error;
  stamp(text);
  invoke(kErrorMessage.slot, &text);
  std::string message;
  if (text.data != nullptr) message.assign(static_cast<const char*>(text.data), text.size);
  std::replace(message.begin(), message.end(), '\n', ' ');
  const bool memory = code.code == kResourceExhausted;
  fail(fmt::format("{}: {}{}", function, memory ? "the device is out of memory: " : "",
                   shown(message, 1000)));
}

void Plugin::free_error(void* error) const noexcept {
  if (error == nullptr) return;
  ObjectArgs args;
  args.object = error;
  stamp(args);
  invoke(kErrorDestroy.slot, &args);
}

std::string Plugin::description() const {
  return fmt::format("PJRT 0.{}{}", neuron_ ? minor_ : own_minor_,
                     stablehlo_.empty() ? "" : ", StableHLO " + stablehlo_);
}

}  // namespace ng::pjrt
