"""``torch_npu.npu_fusion_attention`` with the real signature, and torch's attention behind it."""

import torch
from torch.nn import functional as F

_COMPRESSED_MASK = 2048


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
    """Attend over [B, S, N, D]; as the card's kernel, refuse what it refuses."""
    if input_layout != "BSND" or query.dim() != 4 or query.shape[2] != head_num:
        raise RuntimeError(f"the simulated kernel knows BSND with {head_num} heads, not {input_layout} {query.shape}")
    if sparse_mode not in (0, 2):
        raise RuntimeError(f"the simulated kernel has no sparse_mode {sparse_mode}")
    if sparse_mode == 2:
        # Its values are not looked at: that would wait for the device.
        if atten_mask is None or atten_mask.dtype != torch.bool or atten_mask.shape != (_COMPRESSED_MASK,) * 2:
            raise RuntimeError("sparse_mode 2 reads an upper triangular bool mask of 2048 x 2048")
    elif atten_mask is not None:
        raise RuntimeError("the simulated kernel takes no mask without sparse_mode 2")
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(
        q, k, v, dropout_p=1.0 - keep_prob, is_causal=sparse_mode == 2, scale=float(scale)
    )
    return out.transpose(1, 2).contiguous(), None, None, None, seed, offset, 0
