// Counters and traps that tests switch on: which operators ran, and whether anything waited for the device.
#include "simulator.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <mutex>

namespace npusim {
namespace {

std::mutex mutex;
std::map<std::string, int64_t> counts;
std::atomic<bool> counting{false};
std::atomic<bool> shapes{false};
std::atomic<bool> forbidden{false};

} // namespace

void count_op(const std::string& name) {
  if (counting) {
    const std::lock_guard<std::mutex> lock(mutex);
    ++counts[name];
  }
}

void note_sync(const char* what) {
  count_op(std::string("sync: ") + what);
  TORCH_CHECK(!forbidden, "the host waited for the NPU (", what, ") where waiting is forbidden");
}

bool is_counting_shapes() {
  return counting && shapes;
}

void start_census(bool with_shapes) {
  const std::lock_guard<std::mutex> lock(mutex);
  counts.clear();
  shapes = with_shapes;
  counting = true;
}

std::map<std::string, int64_t> stop_census() {
  const std::lock_guard<std::mutex> lock(mutex);
  counting = false;
  return std::move(counts);
}

void forbid_sync(bool on) {
  forbidden = on;
}

} // namespace npusim
