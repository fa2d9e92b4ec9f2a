// The Python module `npusim_native`: the few calls that the torch_npu stand-in needs.
#include "simulator.h"

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

PYBIND11_MODULE(npusim_native, m) {
  using namespace npusim;
  m.def("device_count", [] { return int(device_count()); });
  m.def("current_device", [] { return int(current_device()); });
  // Wrapped, an error is its message alone, as the real module gives it, without the C++ frames.
  m.def("set_device", torch::wrap_pybind_function([](int index) { set_device(c10::DeviceIndex(index)); }));
  m.def("is_initialized", &is_initialized);
  m.def("is_in_bad_fork", &is_in_bad_fork);
  m.def("check_usable", torch::wrap_pybind_function(check_usable));
  m.def("default_generator", [](int index) { return default_generator(c10::DeviceIndex(index)); });
  m.def("memory_allocated", [](int index) { return memory_stats(c10::DeviceIndex(index)).allocated; });
  m.def("memory_peak", [](int index) { return memory_stats(c10::DeviceIndex(index)).peak; });
  m.def("reset_peak", [](int index) { reset_peak(c10::DeviceIndex(index)); });
  m.def("total_memory", &total_memory);
  m.def("to_host", &to_host, "A CPU tensor over the memory of an npu tensor.");
  m.def("note_sync", [](const std::string& what) { note_sync(what.c_str()); });
  m.def("note_under_way", [](const at::Tensor& tensor) { note_under_way(tensor.storage().data()); });
  m.def("note_written", [](const at::Tensor& tensor) { note_written(tensor.storage().data()); });
  m.def("collective_started", &collective_started);
  m.def("collective_finished", &collective_finished);
  m.def("note_host_waited_for_all", &note_host_waited_for_all, pybind11::call_guard<pybind11::gil_scoped_release>());
  m.def("start_census", &start_census);
  m.def("stop_census", &stop_census);
  m.def("forbid_sync", &forbid_sync);
}
