// What the parts of the simulated device share: its state, its memory and the two crossings between npu and CPU tensors.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <map>
#include <string>

namespace npusim {

constexpr c10::DeviceType kNpu = c10::DeviceType::PrivateUse1;

// device.cpp: current device, number of devices, fork trap.
c10::DeviceIndex device_count();
c10::DeviceIndex current_device();
void set_device(c10::DeviceIndex index);
bool is_initialized();
bool is_in_bad_fork();
void check_usable(); // initialises; throws where that is to fail, and in a process forked from one that had done so
c10::StreamId current_stream_id();

// memory.cpp: host memory that counts as device memory.
struct MemoryStats {
  int64_t allocated = 0;
  int64_t peak = 0;
};
c10::Allocator* npu_allocator();
c10::Allocator* pinned_allocator();
bool is_pinned(const void* data);
void count_memory(c10::DeviceIndex index, int64_t bytes);
MemoryStats memory_stats(c10::DeviceIndex index);
void reset_peak(c10::DeviceIndex index);
int64_t total_memory();

// streams.cpp: which stream made, wrote and uses which memory; throws where a card would race.
void note_made(const void* data);
void note_written(const void* data);
void note_under_way(const void* data); // by a collective
void note_used(const void* data);
void note_recorded(const void* data, c10::StreamId stream);
void note_freed(const void* data);
int64_t stream_position(c10::StreamId stream);
void note_waited(c10::StreamId who, c10::StreamId whom, int64_t at);
void note_host_waited(c10::StreamId whom);
void note_host_waited_for_all();
void collective_started();
void collective_finished();
void wait_for_collectives(); // without the GIL, which those who finish them need

// random.cpp: one generator a device, each around a CPU generator that the CPU kernels accept.
const at::Generator& default_generator(c10::DeviceIndex index);
at::Generator new_generator(c10::DeviceIndex index);
at::Generator host_generator(const at::Generator& generator);

// crossing.cpp: zero-copy views between the two kinds of tensor.
at::Tensor to_host(const at::Tensor& tensor); // a CPU tensor over the same memory; keeps the npu storage alive
at::Tensor to_npu(const at::Tensor& tensor, c10::DeviceIndex index); // an npu tensor that owns a CPU result
void check_dtype(c10::ScalarType dtype); // the float64 trap

// fallback.cpp: an operator by the CPU's kernel on the same memory.
void run_on_host(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// traps.cpp: what tests can ask for.
void count_op(const std::string& name);
void note_sync(const char* what); // throws while synchronising is forbidden
bool is_counting_shapes();
void start_census(bool with_shapes);
std::map<std::string, int64_t> stop_census();
void forbid_sync(bool on);

} // namespace npusim
