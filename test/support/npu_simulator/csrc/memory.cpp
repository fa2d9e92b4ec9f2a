// Device memory and pinned memory, both on the host; counts bytes a device and can refuse when a limit is reached.
#include "simulator.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace npusim {
namespace {

constexpr size_t kAlignment = 64;
std::mutex mutex;
std::map<c10::DeviceIndex, MemoryStats> stats;
std::map<const void*, size_t> pinned; // start of each pinned block, and its size

struct Block {
  void* data;
  size_t bytes;
  c10::DeviceIndex index;
};

void* allocate_host(size_t bytes) {
  void* data = nullptr;
  TORCH_CHECK(posix_memalign(&data, kAlignment, std::max(bytes, size_t(1))) == 0, "host out of memory: ", bytes, " bytes");
  return data;
}

void free_block(void* context) {
  auto* block = static_cast<Block*>(context);
  note_freed(block->data);
  count_memory(block->index, -int64_t(block->bytes));
  std::free(block->data);
  delete block;
}

void free_pinned(void* data) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    pinned.erase(data);
  }
  std::free(data);
}

struct NpuAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    check_usable();
    const auto index = current_device();
    const c10::Device device(kNpu, index);
    if (bytes == 0) {
      return {nullptr, nullptr, nullptr, device};
    }
    const auto used = memory_stats(index).allocated;
    TORCH_CHECK_WITH(
        OutOfMemoryError, used + int64_t(bytes) <= total_memory(),
        "NPU out of memory. Tried to allocate ", bytes, " bytes (NPU ", int(index), "; ", total_memory(),
        " bytes total capacity; ", used, " bytes already allocated)");
    auto* block = new Block{allocate_host(bytes), bytes, index};
    count_memory(index, int64_t(bytes));
    note_made(block->data);
    return {block->data, block, free_block, device};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    check_usable();
    void* data = allocate_host(bytes);
    const std::lock_guard<std::mutex> lock(mutex);
    pinned[data] = std::max(bytes, size_t(1));
    return {data, data, free_pinned, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_pinned; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

NpuAllocator npu;
PinnedAllocator pinning;
REGISTER_ALLOCATOR(kNpu, &npu);

} // namespace

c10::Allocator* npu_allocator() {
  return &npu;
}

c10::Allocator* pinned_allocator() {
  return &pinning;
}

bool is_pinned(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  auto after = pinned.upper_bound(data);
  if (after == pinned.begin()) {
    return false;
  }
  --after;
  return static_cast<const char*>(data) < static_cast<const char*>(after->first) + after->second;
}

void count_memory(c10::DeviceIndex index, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  auto& entry = stats[index];
  entry.allocated += bytes;
  entry.peak = std::max(entry.peak, entry.allocated);
}

MemoryStats memory_stats(c10::DeviceIndex index) {
  const std::lock_guard<std::mutex> lock(mutex);
  return stats[index];
}

void reset_peak(c10::DeviceIndex index) {
  const std::lock_guard<std::mutex> lock(mutex);
  stats[index].peak = stats[index].allocated;
}

int64_t total_memory() {
  static const int64_t bytes = [] {
    const char* text = std::getenv("NPUSIM_MEMORY_MB");
    return (text == nullptr ? int64_t(65536) : std::atoll(text)) << 20;
  }();
  return bytes;
}

} // namespace npusim
