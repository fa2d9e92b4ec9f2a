"""``torch_npu.npu_fusion_attention`` with the real signature: what it refuses, what it saves, and plain arithmetic.

Source: Ascend/op-plugin, op_plugin/ops/opapi/FlashAttentionKernelNpuOpApi.cpp; CANN's page of aclnnFlashAttentionScore.
"""

import torch
from torch.autograd.function import once_differentiable

_COMPRESSED_MASK = 2048
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_SPARSE_MODES = range(7)


class _Attention(torch.autograd.Function):
    """Attention that saves its inputs and its mask, and computes from them anew in the backward pass, as the card's."""

    @staticmethod
    def forward(ctx, query, key, value, mask, dropped, scale):
        ctx.save_for_backward(query, key, value, mask, dropped)
        ctx.scale = scale
        return _attend(query, key, value, mask, dropped, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        *inputs, mask, dropped = ctx.saved_tensors
        with torch.enable_grad(), _without_autocast():
            inputs = [tensor.detach().requires_grad_() for tensor in inputs]
            out = _attend(*inputs, mask, dropped, ctx.scale)
        return *torch.autograd.grad(out, inputs, gradient), None, None, None


def _without_autocast():
    # A fused operator of its own is on none of autocast's lists, and what it is made of is not seen from outside.
    return torch.autocast("npu", enabled=False)


def _attend(query, key, value, mask, dropped, scale):
    """Attend over [B, S, N, D] in float32; ``mask`` is True where forbidden, ``dropped`` scales probabilities."""
    q, k, v = (tensor.transpose(1, 2).float() for tensor in (query, key, value))
    scores = (q * scale) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(mask[: scores.shape[-2], : scores.shape[-1]], float("-inf"))
    weights = scores.softmax(-1)
    if dropped is not None:
        weights = weights * dropped
    return (weights @ v).transpose(1, 2).to(query.dtype).contiguous()


def _check(tensors, head_num, input_layout, keep_prob, sparse_mode):
    """Refuse what op-plugin and CANN refuse, and what this stand-in has no arithmetic for."""
    query = tensors[0]
    for name, tensor in zip(("query", "key", "value"), tensors, strict=True):
        if tensor.device.type != "npu":
            raise RuntimeError(f"npu_fusion_attention takes npu tensors, and {name} is on {tensor.device}")
        if tensor.dim() not in (3, 4):
            raise RuntimeError(f"The shapes of the input {name} should be 3 or 4 dimensional, but got {tensor.dim()}")
        if tensor.dtype not in _DTYPES or tensor.dtype != query.dtype:
            raise RuntimeError(
                "NPU function error: call aclnnFlashAttentionScore failed, error code is 161002: query, key and value "
                f"must have one dtype of float16, bfloat16 and float32, but {name} has {tensor.dtype}"
            )
    if not 0 < keep_prob <= 1:
        raise RuntimeError(f"The keep_prob value must be in range of (0, 1], but got {keep_prob}")
    if sparse_mode not in _SPARSE_MODES:
        raise RuntimeError(f"The sparse_mode value must be in range of [0,6], but got {sparse_mode}")
    if input_layout != "BSND" or query.dim() != 4 or query.shape[2] != head_num:
        raise RuntimeError(f"the simulated kernel knows BSND with {head_num} heads, not {input_layout} {query.shape}")


def _check_mask(mask, sparse_mode, lengths):
    if sparse_mode not in (0, 2):
        raise RuntimeError(f"the simulated kernel has no sparse_mode {sparse_mode}")
    if sparse_mode == 0:
        if mask is not None:
            raise RuntimeError("the simulated kernel takes no mask without sparse_mode 2")
    elif mask is None or mask.dtype not in (torch.bool, torch.uint8) or mask.shape != (_COMPRESSED_MASK,) * 2:
        raise RuntimeError("sparse_mode 2 reads an upper triangular bool mask of 2048 x 2048")
    elif max(lengths) > _COMPRESSED_MASK:
        raise RuntimeError("the simulated kernel reads its mask once, for at most 2048 positions")


def npu_fusion_attention(
    query,
    key,
    value,
    head_num,
    input_layout,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tockens=2147483647,
    next_tockens=2147483647,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    softmax_layout="",
    sink=None,
    dropout_mask=None,
    seed=0,
    offset=0,
):
    """Attend over [B, S, N, D] as the card's kernel; the mask's values count, in the backward pass too."""
    tensors = (query, key, value)
    _check(tensors, head_num, input_layout, keep_prob, sparse_mode)
    _check_mask(atten_mask, sparse_mode, (query.shape[1], key.shape[1]))
    dropped = None
    with _without_autocast():
        if keep_prob < 1:
            shape = (query.shape[0], head_num, query.shape[1], key.shape[1])
            dropped = torch.empty(shape, device=query.device).bernoulli_(keep_prob) / keep_prob
        mask = atten_mask.bool() if atten_mask is not None and atten_mask.dtype != torch.bool else atten_mask
        out = _Attention.apply(*tensors, mask, dropped, float(scale))
    return out, None, None, None, seed, offset, 0
