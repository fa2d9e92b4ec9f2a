// Autocast on the npu. torch publishes which operators run in which precision; here each gets a boxed kernel that casts
// its tensor arguments, which compiles in a fraction of the time of torch's own templates.
#include "simulator.h"

#include <ATen/autocast_mode.h>

#include <algorithm>

namespace npusim {
namespace {

using at::Tensor;
using Stack = torch::jit::Stack;

template <class F>
void for_each_argument(const c10::OperatorHandle& op, Stack* stack, F&& visit) {
  const auto count = op.schema().arguments().size();
  const auto first = stack->size() - count;
  for (size_t i = 0; i < count; ++i) {
    visit((*stack)[first + i], op.schema().arguments()[i]);
  }
}

void cast_arguments(const c10::OperatorHandle& op, Stack* stack, at::ScalarType dtype) {
  for_each_argument(op, stack, [&](c10::IValue& value, const c10::Argument&) {
    if (value.isTensor()) {
      value = at::autocast::cached_cast(dtype, value.toTensor(), kNpu);
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const auto& tensor : value.toTensorVector()) {
        list.push_back(at::autocast::cached_cast(dtype, tensor, kNpu));
      }
      value = std::move(list);
    }
  });
}

bool any_eligible(const c10::OperatorHandle& op, Stack* stack) {
  bool found = false;
  for_each_argument(op, stack, [&](c10::IValue& value, const c10::Argument&) {
    found = found || (value.isTensor() && at::autocast::is_eligible(value.toTensor(), kNpu));
  });
  return found;
}

template <at::autocast::CastPolicy policy>
void cast_and_call(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastPrivateUse1);
  if constexpr (policy == at::autocast::CastPolicy::lower_precision_fp) {
    cast_arguments(op, stack, at::autocast::get_autocast_dtype(kNpu));
  } else if constexpr (policy == at::autocast::CastPolicy::fp32) {
    cast_arguments(op, stack, at::kFloat);
  } else if constexpr (policy == at::autocast::CastPolicy::fp32_set_opt_dtype) {
    if (any_eligible(op, stack)) {
      for_each_argument(op, stack, [](c10::IValue& value, const c10::Argument& argument) {
        if (argument.name() == "dtype" && value.isNone()) {
          value = at::kFloat;
        }
      });
    }
  } else {
    auto widest = at::autocast::get_autocast_dtype(kNpu);
    const auto widen = [&](const Tensor& tensor) {
      if (at::autocast::is_eligible(tensor, kNpu)) {
        widest = at::promote_types(widest, tensor.scalar_type());
      }
    };
    for_each_argument(op, stack, [&](c10::IValue& value, const c10::Argument&) {
      if (value.isTensor()) {
        widen(value.toTensor());
      } else if (value.isTensorList()) {
        for (const auto& tensor : value.toTensorVector()) {
          widen(tensor);
        }
      }
    });
    cast_arguments(op, stack, widest);
  }
  op.callBoxed(stack);
}

// The published lists are X-macros of (OP) or (OP, OVERLOAD); only the names are wanted here.
#define NAME_1(OP) "aten::" #OP
#define NAME_2(OP, OVERLOAD) "aten::" #OP "." #OVERLOAD
#define PICK(_1, _2, CHOSEN, ...) CHOSEN
#define NAME(...) PICK(__VA_ARGS__, NAME_2, NAME_1)(__VA_ARGS__)
#define BOXED(POLICY) \
  torch::CppFunction::makeFromBoxedFunction<&cast_and_call<at::autocast::CastPolicy::POLICY>>()
#define LOWER(...) m.impl(NAME(__VA_ARGS__), BOXED(lower_precision_fp));
#define FP32(...) m.impl(NAME(__VA_ARGS__), BOXED(fp32));
#define FP32_DTYPE(...) m.impl(NAME(__VA_ARGS__), BOXED(fp32_set_opt_dtype));
#define FP32_NORM(FUNCTION, NAME, ...) m.impl("aten::" NAME, BOXED(fp32));
#define PROMOTE(...) m.impl(NAME(__VA_ARGS__), BOXED(promote));

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(FP32)
  AT_FORALL_FP32_SET_OPT_DTYPE(FP32_DTYPE)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(FP32_NORM)
  AT_FORALL_PROMOTE(PROMOTE)
}

} // namespace
} // namespace npusim
