// Does the emulated libnrt keep its callers to the rules of the real one?
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>

#include "backends/neuron/emulated_nrt_for_test.h"
#include "backends/neuron/nrt_abi.h"
#include "backends/xla/emit_hlo.h"
#include "emulated/pseudo_neff.h"
#include "ir/build.h"

namespace ng {
namespace {

using nrt::Status;

// A state of three rows of two, of which one is written and one, at an index that nothing clamps,
// is read.
std::string module_bytes() {
  Graph g("step");
  const Value rows = input(g, "rows", {DType::f32, {1, 2}});
  const Value index = input(g, "index", {DType::s32, {1}});
  const Value state = input(g, "cache", {DType::f32, {3, 2}});
  const Value written = write_rows(g, state, rows, index);
  g.outputs = {{"read", gather_rows(g, written, index)}, {"cache", written}};
  return emit_hlo(g, HloDialect::neuron);
}

class EmulatedNrtTest : public ::testing::Test {
 protected:
  EmulatedNrtTest() {
    neff = pseudo_neff(module_bytes(), "step", *parse_neuron_version("2.27.1.0"), 1);
  }
  ~EmulatedNrtTest() override { close(); }
  void open() {
    ASSERT_EQ(init(1, "", ""), nrt::kSuccess);
    ASSERT_EQ(load(neff.data(), neff.size(), 0, 1, &model), nrt::kSuccess);
    for (nrt::Set** set : {&in, &out}) ASSERT_EQ(make_set(set), nrt::kSuccess);
    rows = bind(in, "rows", 8);
    index = bind(in, "index", 4);
    cache = bind(in, "cache.must_alias_input", 24);
    bind(out, "read", 8);
    add(out, "cache", cache);
    set_rows(1, 2);
    set_index(0);
  }
  nrt::Buffer* bind(nrt::Set* set, const char* name, size_t size) {
    nrt::Buffer* buffer = nullptr;
    EXPECT_EQ(allocate(0, 0, size, name, &buffer), nrt::kSuccess);
    EXPECT_EQ(add(set, name, buffer), nrt::kSuccess);
    return buffer;
  }
  void set_index(int32_t value) { EXPECT_EQ(write(index, &value, 0, 4), nrt::kSuccess); }
  void set_rows(float x, float y) {
    const float values[] = {x, y};
    EXPECT_EQ(write(rows, values, 0, 8), nrt::kSuccess);
  }
  Status run() { return execute(model, in, out); }

  EmulatedNrt library;
  Status (*init)(int32_t, const char*, const char*) = library.function<decltype(init)>("nrt_init");
  void (*close)() = library.function<decltype(close)>("nrt_close");
  Status (*load)(const void*, size_t, int32_t, int32_t,
                 nrt::Model**) = library.function<decltype(load)>("nrt_load");
  Status (*unload)(nrt::Model*) = library.function<decltype(unload)>("nrt_unload");
  Status (*allocate)(int32_t, int32_t, size_t, const char*,
                     nrt::Buffer**) = library.function<decltype(allocate)>("nrt_tensor_allocate");
  void (*release)(nrt::Buffer**) = library.function<decltype(release)>("nrt_tensor_free");
  Status (*read)(const nrt::Buffer*, void*, size_t,
                 size_t) = library.function<decltype(read)>("nrt_tensor_read");
  Status (*write)(nrt::Buffer*, const void*, size_t,
                  size_t) = library.function<decltype(write)>("nrt_tensor_write");
  Status (*make_set)(nrt::Set**) = library.function<decltype(make_set)>("nrt_allocate_tensor_set");
  Status (*add)(nrt::Set*, const char*,
                nrt::Buffer*) = library.function<decltype(add)>("nrt_add_tensor_to_tensor_set");
  Status (*execute)(nrt::Model*, const nrt::Set*,
                    nrt::Set*) = library.function<decltype(execute)>("nrt_execute");
  std::string neff;
  nrt::Model* model = nullptr;
  nrt::Set *in = nullptr, *out = nullptr;
  nrt::Buffer *rows = nullptr, *index = nullptr, *cache = nullptr;
};

TEST_F(EmulatedNrtTest, NothingWorksBeforeItIsInitialisedOrAfterItIsClosed) {
  close();
  EXPECT_EQ(load(neff.data(), neff.size(), 0, 1, &model), nrt::kClosed);
  open();
  EXPECT_EQ(init(1, "", ""), nrt::kInvalid) << "twice";
  EXPECT_EQ(run(), nrt::kSuccess);
}

TEST_F(EmulatedNrtTest, ACallThatIsMadeToWaitKeepsNobodyElseWaiting) {
  open();
  std::atomic<bool> ended = false;
  const Environment waits("EMULATED_NRT", "nrt_execute@1=3000ms");
  std::thread slow([&] {
    EXPECT_EQ(run(), nrt::kSuccess);
    ended = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  nrt::Set* other = nullptr;
  EXPECT_EQ(make_set(&other), nrt::kSuccess);
  bind(other, "rows", 8);
  EXPECT_FALSE(ended);
  slow.join();
}

TEST_F(EmulatedNrtTest, AFaultThatIsMistypedIsRefused) {
  for (const char* bad :
       {"garbage", "nrt_exceute@1+=1006", "nrt_execute", "nrt_execute@=5", "nrt_execute@0=5",
        "nrt_execute@1=x", "nrt_execute@1=5s", "nrt_execute@1-=5", "nrt_execute@1=5,,"}) {
    const Environment planted("EMULATED_NRT", bad);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(init(1, "", ""), nrt::kInvalid) << bad;
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("EMULATED_NRT"), std::string::npos);
  }
}

TEST_F(EmulatedNrtTest, ABindingThatIsMissingOrOfAnotherSizeIsABadInput) {
  open();
  for (const char* name : {"rows", "index", "cache.must_alias_input"}) {
    nrt::Set* other = nullptr;
    ASSERT_EQ(make_set(&other), nrt::kSuccess);
    for (const auto& [bound, buffer] :
         {std::pair{"rows", rows}, {"index", index}, {"cache.must_alias_input", cache}}) {
      if (std::string_view(bound) != name) add(other, bound, buffer);
    }
    EXPECT_EQ(execute(model, other, out), nrt::kBadInput) << name;
  }
  EXPECT_EQ(run(), nrt::kSuccess);
  bind(in, "rows", 12);
  EXPECT_EQ(run(), nrt::kBadInput);
}

TEST_F(EmulatedNrtTest, AStateIsOneBufferAndOtherOutputsHaveTheirOwn) {
  open();
  EXPECT_EQ(run(), nrt::kSuccess);
  add(out, "read", rows);
  EXPECT_EQ(run(), nrt::kInvalid) << "an output over an input";
  bind(out, "read", 8);
  EXPECT_EQ(run(), nrt::kSuccess);
  bind(out, "cache", 24);
  EXPECT_EQ(run(), nrt::kInvalid) << "a state that is not in place";
}

TEST_F(EmulatedNrtTest, AnIndexOutsideItsTableIsAFaultAndNanIsTold) {
  open();
  for (const int32_t outside : {-1, 3, std::numeric_limits<int32_t>::max()}) {
    set_index(outside);
    EXPECT_EQ(run(), nrt::kOutOfBounds);
  }
  set_index(2);
  EXPECT_EQ(run(), nrt::kSuccess);
  set_rows(std::numeric_limits<float>::quiet_NaN(), 1);
  EXPECT_EQ(run(), nrt::kNumericalError);
}

TEST_F(EmulatedNrtTest, ReadsAndWritesStayInsideTheirBuffer) {
  open();
  std::vector<std::byte> bytes(32);
  constexpr size_t kMost = std::numeric_limits<size_t>::max();
  for (const auto& [offset, size] :
       {std::pair<size_t, size_t>{0, 25}, {24, 1}, {25, 0}, {kMost, 2}, {1, kMost}}) {
    EXPECT_EQ(read(cache, bytes.data(), offset, size), nrt::kInvalid);
    EXPECT_EQ(write(cache, bytes.data(), offset, size), nrt::kInvalid);
  }
  EXPECT_EQ(read(cache, bytes.data(), 20, 4), nrt::kSuccess);
}

TEST_F(EmulatedNrtTest, WhatIsGoneOrNeverWasIsNoHandle) {
  open();
  nrt::Buffer* copy = rows;
  release(&rows);
  EXPECT_EQ(library.misuse(), 0U);
  release(&copy);
  EXPECT_EQ(library.misuse(), 1U);
  EXPECT_EQ(run(), nrt::kBadInput) << "a set holds a buffer that is gone";
  EXPECT_EQ(write(reinterpret_cast<nrt::Buffer*>(this), "", 0, 1), nrt::kInvalidHandle);
  EXPECT_EQ(unload(model), nrt::kSuccess);
  EXPECT_EQ(unload(model), nrt::kInvalidHandle);
  EXPECT_EQ(run(), nrt::kInvalidHandle);
  const uint64_t left = library.live(), before = library.misuse();
  close();
  EXPECT_EQ(library.misuse(), before + left) << "what was left is told";
}

TEST_F(EmulatedNrtTest, NothingButAWholePseudoNeffIsLoaded) {
  ASSERT_EQ(init(1, "", ""), nrt::kSuccess);
  ::testing::internal::CaptureStderr();  // it says what is wrong each time
  for (size_t i = 0; i < neff.size(); i += i < 1024 ? 97 : 61) {
    std::string damaged = neff;
    damaged[i] ^= 0x55;
    const Status status = load(damaged.data(), damaged.size(), 0, 1, &model);
    EXPECT_TRUE(status == nrt::kSuccess || status == nrt::kUnsupportedNeff) << i;
    EXPECT_TRUE(i < 1024 || status == nrt::kUnsupportedNeff) << i;
    EXPECT_EQ(load(neff.data(), i, 0, 1, &model), nrt::kUnsupportedNeff) << i;
  }
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("is damaged"), std::string::npos);
}

}  // namespace
}  // namespace ng
