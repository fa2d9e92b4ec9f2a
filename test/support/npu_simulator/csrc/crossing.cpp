// Zero-copy crossings: a CPU tensor over an npu tensor's memory, and an npu tensor that takes over a CPU result.
#include "simulator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <cstring>

namespace npusim {
namespace {

struct Owner {
  c10::Storage storage;
  c10::DeviceIndex index;
  int64_t counted;
  const void* made; // what this owner answers for; null for a second view of it
};

void release(void* context) {
  auto* owner = static_cast<Owner*>(context);
  count_memory(owner->index, -owner->counted);
  if (owner->made != nullptr) {
    note_freed(owner->made);
  }
  delete owner;
}

at::Tensor with_shape_of(const at::Tensor& like, c10::Storage storage, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return made;
}

} // namespace

at::Tensor to_host(const at::Tensor& tensor) {
  const auto& storage = tensor.storage();
  void* data = storage.mutable_data();
  note_used(data);
  auto* owner = new Owner{storage, tensor.device().index(), 0, nullptr};
  c10::DataPtr pointer(data, owner, release, c10::Device(c10::DeviceType::CPU));
  c10::Storage host(
      c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(pointer), c10::GetCPUAllocator(), /*resizable=*/true);
  return with_shape_of(tensor, std::move(host), c10::DispatchKey::CPU);
}

at::Tensor to_npu(const at::Tensor& tensor, c10::DeviceIndex index) {
  TORCH_CHECK(tensor.layout() == c10::kStrided, "the simulated NPU has dense tensors only");
  check_dtype(tensor.scalar_type());
  const auto& storage = tensor.storage();
  const auto bytes = int64_t(storage.nbytes());
  count_memory(index, bytes);
  void* data = storage.mutable_data();
  note_made(data);
  c10::DataPtr pointer(data, new Owner{storage, index, bytes, data}, release, c10::Device(kNpu, index));
  c10::Storage npu(
      c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(pointer), npu_allocator(), /*resizable=*/true);
  return with_shape_of(tensor, std::move(npu), c10::DispatchKey::PrivateUse1);
}

void check_dtype(c10::ScalarType dtype) {
  static const bool refuse = [] {
    const char* text = std::getenv("NPUSIM_FLOAT64");
    return text == nullptr || std::strcmp(text, "allow") != 0;
  }();
  TORCH_CHECK(
      !(refuse && (dtype == c10::kDouble || dtype == c10::kComplexDouble)),
      "a float64 tensor reached the NPU, which would compute it in float32 without saying so");
}

} // namespace npusim
