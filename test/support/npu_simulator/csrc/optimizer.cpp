// The fused optimizers, as op-plugin has them: a kernel of its own on chips from 910B on, which knows no loss scale.
// Source: Ascend/op-plugin, op_plugin/ops/opapi/FusedAdamWKernelNpuOpApi.cpp; CANN's page of aclnnApplyAdamWV2.
#include "simulator.h"

#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>

namespace npusim {
namespace {

bool chip_has_it() {
  static const bool has = [] {
    const char* text = std::getenv("NPUSIM_BF16");
    return text == nullptr || std::strcmp(text, "0") != 0;
  }();
  return has;
}

void fused(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  TORCH_CHECK(
      chip_has_it(), "NPU function error: call aclnnApplyAdamWV2 failed: this chip has no kernel for ", op.schema().name());
  for (size_t i = 0; i < op.schema().arguments().size(); ++i) {
    const auto& name = op.schema().arguments()[i].name();
    if (name == "grad_scale" || name == "found_inf") {
      // Taken and not looked at: gradients stay scaled, and a step that should be left out is done.
      (*stack)[stack->size() - op.schema().arguments().size() + i] = c10::IValue();
    }
  }
  run_on_host(op, keys, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  for (const char* name : {"_fused_adamw_", "_fused_adamw_.tensor_lr", "_fused_adam_", "_fused_adam_.tensor_lr"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fused>());
  }
}

} // namespace
} // namespace npusim
