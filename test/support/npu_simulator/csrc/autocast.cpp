// Autocast on the npu. Each operator of torch_npu's lists gets a boxed kernel that casts its tensor arguments, which
// compiles in a fraction of the time of torch's own templates.
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

// torch_npu's own lists, which are not torch's: they lack what came to torch later, and binary_cross_entropy is refused.
// Source: Ascend/pytorch, torch_npu/csrc/aten/AutoCastOps.cpp (the same from 2.6 on, but for dimension names).
constexpr const char* kLower[] = {
    "_convolution.deprecated", "_convolution", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d",
    "conv_transpose2d.input", "conv_transpose3d.input", "convolution", "cudnn_convolution",
    "cudnn_convolution_transpose", "prelu", "addmm", "addmv", "addr", "matmul", "einsum", "mm", "mv", "linear", "addbmm",
    "baddbmm", "bmm", "chain_matmul", "linalg_multi_dot", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell",
    "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "_scaled_dot_product_flash_attention", "scaled_dot_product_attention"};
constexpr const char* kFp32[] = {
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh",
    "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm",
    "group_norm", "frobenius_norm.dim", "nuclear_norm", "nuclear_norm.dim", "cosine_similarity", "poisson_nll_loss",
    "cosine_embedding_loss", "nll_loss", "nll_loss2d", "hinge_embedding_loss", "kl_div", "l1_loss", "smooth_l1_loss",
    "huber_loss", "mse_loss", "margin_ranking_loss", "multilabel_margin_loss", "soft_margin_loss",
    "triplet_margin_loss", "multi_margin_loss", "binary_cross_entropy_with_logits", "dist", "pdist", "cdist", "renorm",
    "logsumexp", "norm.Scalar", "norm.ScalarOpt_dim"};
constexpr const char* kFp32Dtype[] = {
    "prod", "prod.dim_int", "softmax.int", "log_softmax.int", "cumprod", "cumsum", "linalg_vector_norm",
    "linalg_matrix_norm", "linalg_matrix_norm.str_ord", "sum", "sum.dim_IntList"};
constexpr const char* kPromote[] = {
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "tensordot", "scatter_add"};

void refuse(const c10::OperatorHandle&, c10::DispatchKeySet, Stack*) {
  TORCH_CHECK(
      false,
      "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast; "
      "use binary_cross_entropy_with_logits");
}

template <at::autocast::CastPolicy policy, size_t count>
void add(torch::Library& m, const char* const (&names)[count]) {
  for (const char* name : names) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&cast_and_call<policy>>());
  }
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  using at::autocast::CastPolicy;
  add<CastPolicy::lower_precision_fp>(m, kLower);
  add<CastPolicy::fp32>(m, kFp32);
  add<CastPolicy::fp32_set_opt_dtype>(m, kFp32Dtype);
  add<CastPolicy::promote>(m, kPromote);
  m.impl("binary_cross_entropy", torch::CppFunction::makeFromBoxedFunction<&refuse>());
}

} // namespace
} // namespace npusim
