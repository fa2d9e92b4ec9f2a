// Operators that must know they are on the npu: making tensors, views, storage, copies, scalars and convolution.
// All others go to the CPU through fallback.cpp.
#include "simulator.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

namespace npusim {
namespace {

using at::IntArrayRef;
using at::Tensor;
template <class T>
using Maybe = std::optional<T>;

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::ScalarType checked_dtype(Maybe<at::ScalarType> dtype, Maybe<at::Layout> layout, Maybe<bool> pin_memory) {
  TORCH_CHECK(layout.value_or(at::kStrided) == at::kStrided, "the simulated NPU has dense tensors only");
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
  const auto chosen = dtype.value_or(at::typeMetaToScalarType(c10::get_default_dtype()));
  check_dtype(chosen);
  return chosen;
}

Tensor empty(
    IntArrayRef size, Maybe<at::ScalarType> dtype, Maybe<at::Layout> layout, Maybe<at::Device> device,
    Maybe<bool> pin_memory, Maybe<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  count_op("aten::empty.memory_format");
  return at::detail::empty_generic(size, npu_allocator(), kKeys, checked_dtype(dtype, layout, pin_memory), format);
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, Maybe<at::ScalarType> dtype, Maybe<at::Layout> layout,
    Maybe<at::Device> device, Maybe<bool> pin_memory) {
  const c10::OptionalDeviceGuard guard(device);
  count_op("aten::empty_strided");
  return at::detail::empty_strided_generic(
      size, stride, npu_allocator(), kKeys, checked_dtype(dtype, layout, pin_memory));
}

Tensor on_host(const Tensor& tensor) {
  return tensor.device().type() == kNpu ? to_host(tensor) : tensor;
}

Tensor copy_from(const Tensor& source, const Tensor& target, bool) {
  check_usable();
  count_op("aten::_copy_from");
  if (source.device().type() == kNpu && target.device().type() != kNpu) {
    note_sync("copy to host");
    // A copy into pinned memory that nobody waits for proves nothing to other streams.
    if (!is_pinned(target.storage().data())) {
      note_host_waited(current_stream_id());
    }
  }
  on_host(target).copy_(on_host(source));
  if (target.device().type() == kNpu) {
    note_written(target.storage().data());
  }
  return target;
}

const Tensor& resize(const Tensor& self, IntArrayRef size, Maybe<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, size, format);
}

Tensor copy_from_and_resize(const Tensor& source, const Tensor& target) {
  resize(target, source.sizes(), std::nullopt);
  return copy_from(source, target, false);
}

at::Scalar local_scalar(const Tensor& self) {
  note_sync("read of a scalar");
  note_host_waited(current_stream_id());
  return at::native::_local_scalar_dense_cpu(to_host(self));
}

Tensor& set_empty(Tensor& self) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), 0, npu_allocator(), /*resizable=*/true);
  return at::native::set_storage_cpu_(self, storage, 0, {0}, {});
}

Tensor convolution(
    const Tensor& input, const Tensor& weight, const Maybe<Tensor>& bias, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups) {
  count_op("aten::convolution_overrideable");
  const auto host_bias = bias.has_value() && bias->defined() ? Maybe<Tensor>(on_host(*bias)) : std::nullopt;
  const auto output = at::convolution(
      on_host(input), on_host(weight), host_bias, stride, padding, dilation, transposed, output_padding, groups);
  return to_npu(output, input.device().index());
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  count_op("aten::convolution_backward_overrideable");
  const std::array<int64_t, 1> bias_size{gradient.size(1)};
  auto results = at::convolution_backward(
      on_host(gradient), on_host(input), on_host(weight), IntArrayRef(bias_size), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  const auto back = [&](const Tensor& t) { return t.defined() ? to_npu(t, input.device().index()) : t; };
  return {back(std::get<0>(results)), back(std::get<1>(results)), back(std::get<2>(results))};
}

void record_stream(Tensor& self, at::Stream stream) {
  note_recorded(self.storage().data(), stream.id());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("resize_", resize);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("set_.source_Storage", TORCH_FN(static_cast<Tensor& (*)(Tensor&, at::Storage)>(at::native::set_)));
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("set_", set_empty);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
  m.impl("record_stream", record_stream);
}

} // namespace
} // namespace npusim
