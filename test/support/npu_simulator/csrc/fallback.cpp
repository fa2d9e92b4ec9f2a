// Every operator without a kernel of its own: run the CPU's kernel on the same memory, then give the results back as npu
// tensors. Nothing is copied unless the CPU kernel grew a tensor it was asked to write.
#include "simulator.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/ivalue.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <sstream>
#include <vector>

namespace npusim {
namespace {

using at::Tensor;

// One call's npu tensors and the CPU tensors that stand for them.
class Call {
 public:
  explicit Call(const c10::OperatorHandle& op) : op_(op) {}

  void to_host_argument(c10::IValue& value, const c10::Argument& argument);
  void finish_writes();
  c10::IValue from_host(const c10::IValue& value, bool is_written) const;

 private:
  struct Pair {
    Tensor npu;
    Tensor host;
    const void* data;
    size_t bytes;
  };

  Tensor alias(const Tensor& tensor);
  void check_host_tensor(const Tensor& tensor) const;
  Tensor result(const Tensor& host, bool is_written) const;
  c10::DeviceIndex index() const { return index_.value_or(current_device()); }

  const c10::OperatorHandle& op_;
  std::vector<Pair> pairs_;
  std::optional<c10::DeviceIndex> index_;
};

Tensor Call::alias(const Tensor& tensor) {
  if (!tensor.defined()) {
    return tensor;
  }
  if (tensor.device().type() != kNpu) {
    check_host_tensor(tensor);
    return tensor;
  }
  TORCH_CHECK(tensor.layout() == at::kStrided, "the simulated NPU has dense tensors only");
  const auto index = tensor.device().index();
  TORCH_CHECK(
      !index_.has_value() || *index_ == index,
      "Expected all tensors to be on the same device, but found at least two devices, npu:", int(*index_), " and npu:",
      int(index), "! (when calling ", op_.schema().name(), ")");
  index_ = index;
  Tensor host;
  for (const auto& pair : pairs_) {
    if (pair.npu.storage().unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) {
      // Operands that share memory must be seen to share it, or overlap checks would pass what they should refuse.
      host = at::detail::make_tensor<c10::TensorImpl>(
          c10::Storage(pair.host.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
      host.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
      break;
    }
  }
  host = host.defined() ? host : to_host(tensor);
  auto* impl = host.unsafeGetTensorImpl();
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  impl->_set_conj(tensor.is_conj());
  impl->_set_neg(tensor.is_neg());
  pairs_.push_back({tensor, host, host.storage().data(), host.storage().nbytes()});
  return host;
}

// Devices refuse dense host tensors beside their own; numbers, and indices into a tensor, may stay on the host.
void Call::check_host_tensor(const Tensor& tensor) const {
  const auto& name = op_.schema().name();
  const bool is_index = name.find("index") != std::string::npos;
  TORCH_CHECK(
      tensor.dim() == 0 || is_index,
      "Expected all tensors to be on the same device, but found at least two devices, npu:", int(index()), " and cpu! "
      "(when calling ", name, ")");
}

void Call::to_host_argument(c10::IValue& value, const c10::Argument& argument) {
  if (value.isTensor()) {
    value = alias(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const auto& tensor : value.toTensorVector()) {
      list.push_back(alias(tensor));
    }
    value = std::move(list);
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor.has_value() ? std::optional<Tensor>(alias(*tensor)) : std::nullopt);
    }
    value = std::move(list);
  } else if (value.isDevice() && value.toDevice().type() == kNpu) {
    if (value.toDevice().has_index()) {
      index_ = value.toDevice().index();
    }
    value = c10::Device(c10::DeviceType::CPU);
  } else if (value.isGenerator()) {
    const auto generator = value.toGenerator();
    if (generator.device().type() == kNpu) {
      value = host_generator(generator);
    }
  } else if (value.isNone() && argument.type()->str() == "Generator?") {
    // Without this the host's own generator would rule random operators, and npu seeds would do nothing.
    value = host_generator(default_generator(index()));
  }
}

// Bring back what a kernel did to the shape or the storage of a tensor it was given to write.
void Call::finish_writes() {
  for (auto& pair : pairs_) {
    auto* npu = pair.npu.unsafeGetTensorImpl();
    const auto& storage = pair.host.storage();
    if (storage.data() != pair.data || storage.nbytes() != pair.bytes) {
      const c10::DeviceGuard guard(pair.npu.device());
      auto* target = npu->unsafe_storage().unsafeGetStorageImpl();
      auto pointer = npu_allocator()->allocate(storage.nbytes());
      std::memcpy(pointer.get(), storage.data(), storage.nbytes());
      target->set_data_ptr_noswap(std::move(pointer));
      target->set_nbytes(storage.nbytes());
    }
    if (pair.host.sizes() != pair.npu.sizes() || pair.host.strides() != pair.npu.strides()) {
      npu->set_sizes_and_strides(pair.host.sizes(), pair.host.strides(), pair.host.storage_offset());
    }
  }
}

Tensor Call::result(const Tensor& host, bool is_written) const {
  if (!host.defined()) {
    return host;
  }
  for (const auto& pair : pairs_) {
    if (host.is_same(pair.host) && is_written) {
      return pair.npu;
    }
  }
  for (const auto& pair : pairs_) {
    if (host.storage().unsafeGetStorageImpl() == pair.host.storage().unsafeGetStorageImpl()) {
      auto view = at::detail::make_tensor<c10::TensorImpl>(
          c10::TensorImpl::VIEW, c10::Storage(pair.npu.storage()), pair.npu.key_set(), host.dtype());
      auto* impl = view.unsafeGetTensorImpl();
      impl->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
      impl->_set_conj(host.is_conj());
      impl->_set_neg(host.is_neg());
      return view;
    }
  }
  return to_npu(host, index());
}

c10::IValue Call::from_host(const c10::IValue& value, bool is_written) const {
  if (value.isTensor()) {
    return result(value.toTensor(), is_written);
  }
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const auto& tensor : value.toTensorVector()) {
      list.push_back(result(tensor, is_written));
    }
    return list;
  }
  return value;
}

// The shapes of a call's tensors: what a card compiles its operators for.
std::string shapes_of(const torch::jit::Stack& stack, size_t num_arguments) {
  std::ostringstream text;
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined()) {
      text << ' ' << tensor.sizes();
    }
  };
  for (size_t i = stack.size() - num_arguments; i < stack.size(); ++i) {
    if (stack[i].isTensor()) {
      add(stack[i].toTensor());
    } else if (stack[i].isTensorList()) {
      for (const auto& tensor : stack[i].toTensorVector()) {
        add(tensor);
      }
    }
  }
  return text.str();
}

} // namespace

void run_on_host(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  check_usable();
  const auto& schema = op.schema();
  const auto& overload = schema.overload_name();
  auto name = overload.empty() ? schema.name() : schema.name() + "." + overload;
  if (is_counting_shapes()) {
    name += shapes_of(*stack, schema.arguments().size());
  }
  count_op(name);

  Call call(op);
  const auto first = stack->size() - schema.arguments().size();
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    call.to_host_argument((*stack)[first + i], schema.arguments()[i]);
  }
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  call.finish_writes();
  const auto first_result = stack->size() - schema.returns().size();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    const auto* info = schema.returns()[i].alias_info();
    auto& value = (*stack)[first_result + i];
    value = call.from_host(value, info != nullptr && info->isWrite());
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

} // namespace npusim
