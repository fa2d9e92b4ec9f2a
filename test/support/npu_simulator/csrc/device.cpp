// The device itself: how many there are, which is current, streams that are ids and events that are time stamps.
#include "simulator.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdlib>

namespace npusim {
namespace {

constexpr int kMaxDevices = 16;
thread_local c10::DeviceIndex current = 0;
thread_local c10::StreamId streams[kMaxDevices] = {};
std::atomic<bool> initialized{false};
std::atomic<bool> bad_fork{false};
std::atomic<int64_t> next_stream{1};

int read_device_count() {
  const char* text = std::getenv("NPUSIM_DEVICES");
  const int count = text == nullptr ? 1 : std::atoi(text);
  return count < 0 ? 0 : count > kMaxDevices ? kMaxDevices : count;
}

void after_fork_in_child() {
  if (initialized) {
    bad_fork = true;
  }
}

using Clock = std::chrono::steady_clock;
struct Event {
  Clock::time_point time;
  c10::StreamId stream = 0;
  int64_t at = 0;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kNpu; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    if (device.index() != before.index()) {
      set_device(device.index());
    }
    return before;
  }
  c10::Device getDevice() const override { return {kNpu, current}; }
  void setDevice(c10::Device device) const override { set_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }

  c10::Stream getStream(c10::Device device) const override { return stream(device, streams[index_of(device)]); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream(device, 0); }
  c10::Stream getNewStream(c10::Device device, int) const override { return stream(device, next_stream++); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return stream(device, next_stream++); }
  c10::Stream exchangeStream(c10::Stream wanted) const override {
    const auto before = getStream(wanted.device());
    streams[index_of(wanted.device())] = wanted.id();
    return before;
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& stream) const override {
    note_sync("stream synchronize");
    note_host_waited(stream.id());
  }
  void synchronizeDevice(const c10::DeviceIndex) const override {
    note_sync("device synchronize");
    note_host_waited_for_all();
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (*event == nullptr) {
      *event = new Event();
    }
    *static_cast<Event*>(*event) = {Clock::now(), stream.id(), stream_position(stream.id())};
  }
  void block(void* event, const c10::Stream& stream) const override {
    const auto* recorded = static_cast<Event*>(event);
    if (recorded != nullptr) {
      note_waited(stream.id(), recorded->stream, recorded->at);
    }
  }
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void* event) const override {
    note_sync("event synchronize");
    const auto* recorded = static_cast<Event*>(event);
    if (recorded != nullptr) {
      note_waited(-1, recorded->stream, recorded->at);
    }
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  double elapsedTime(void* start, void* end, const c10::DeviceIndex) const override {
    const auto span = static_cast<Event*>(end)->time - static_cast<Event*>(start)->time;
    return std::chrono::duration<double, std::milli>(span).count();
  }

 private:
  static c10::DeviceIndex index_of(c10::Device device) { return device.has_index() ? device.index() : current; }
  static c10::Stream stream(c10::Device device, c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kNpu, index_of(device)), id);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return initialized; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  void setCurrentDevice(c10::DeviceIndex index) const override { set_device(index); }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    const auto before = current;
    if (index >= 0) {
      set_device(index);
    }
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override { return exchangeDevice(index); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override { return default_generator(index); }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override { return new_generator(index); }
  at::Device getDeviceFromPtr(void*) const override { return {kNpu, current}; }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    const c10::DeviceGuard guard(storage.device());
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};

bool register_device() {
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  return true;
}
const bool registered = register_device();

} // namespace

c10::DeviceIndex device_count() {
  static const auto count = static_cast<c10::DeviceIndex>(read_device_count());
  return count;
}

c10::DeviceIndex current_device() {
  return current;
}

void set_device(c10::DeviceIndex index) {
  check_usable();
  TORCH_CHECK(
      index >= 0 && index < device_count(),
      "NPU error: invalid device ordinal ", int(index), "; ", int(device_count()), " device(s) are visible");
  current = index;
}

c10::StreamId current_stream_id() {
  return streams[current];
}

bool is_initialized() {
  return initialized && !bad_fork;
}

bool is_in_bad_fork() {
  return bad_fork;
}

void check_usable() {
  TORCH_CHECK(
      !bad_fork,
      "Cannot re-initialize NPU in forked subprocess. To use NPU with multiprocessing, "
      "you must use the 'spawn' start method");
  if (!initialized) {
    // A card whose driver or CANN is at fault is counted all the same; what uses it first meets the fault.
    static const char* const fault = std::getenv("NPUSIM_INIT_ERROR");
    TORCH_CHECK(fault == nullptr || *fault == '\0', fault);
  }
  initialized = true;
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

} // namespace npusim
