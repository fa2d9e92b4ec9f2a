"""Tracing a model with TorchScript, for programs that deploy such files. Reading them back is the caller's business."""

from typing import Any

import torch

from open_clip.modeling.contrastive import ContrastiveModel
from open_clip.tuples import to_pair

_CPU = torch.device("cpu")


def trace_model(model: ContrastiveModel, batch_size: int = 256, device: str | torch.device = _CPU) -> Any:
    """Trace ``forward``, ``encode_image`` and ``encode_text`` of a model, which is put into eval mode.

    Args:
        model: a model on ``device``.
        batch_size: of the example inputs; a traced model takes other batch sizes too.
        device: where the example inputs go.

    Returns:
        The traced module (``torch.jit.save`` writes it); ``visual.image_size`` still says what it takes.
    """
    model.eval()
    height, width = to_pair(model.visual.image_size)
    image = torch.ones((batch_size, 3, height, width), device=device)
    text = torch.zeros((batch_size, model.context_length), dtype=torch.int, device=device)
    traced: Any = torch.jit.trace_module(  # type: ignore[no-untyped-call]
        model, {"forward": (image, text), "encode_text": (text,), "encode_image": (image,)}, check_trace=False
    )
    traced.visual.image_size = model.visual.image_size
    return traced
