"""The random numbers that layers draw in a forward pass: noted, or handed out again where others would be drawn."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from open_clip.transformer.patches import PatchDropout

# Dropout and drop path fill a mask in place; patch dropout sorts by what it draws.
_DRAWING = (torch.ops.aten.bernoulli_.float, torch.ops.aten.randn.default)
# Accelerators have dropout in one operator, which gives the mask too.
_FUSED = torch.ops.aten.native_dropout.default


class Draws(TorchDispatchMode):
    """Keeps what is drawn while it is open.

    Args:
        given: What to hand out instead, draw by draw.
    """

    def __init__(self, given=None):
        super().__init__()
        self._given = None if given is None else iter(given)
        self.drawn = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        drawn = function(*args, **(kwargs or {}))
        # What is recomputed in a backward pass draws again what checkpointing kept for it.
        if function in _DRAWING and torch._C._current_graph_task_id() == -1:
            if self._given is not None:
                drawn.copy_(next(self._given))
            self.drawn.append(drawn.clone())
        if function is _FUSED:
            self.drawn.append(drawn[1].to(drawn[0].dtype))
        return drawn


def make_random(model):
    """Put patch dropout into the image tower and dropout into a block of everything that reads text."""
    model.visual.patch_dropout = PatchDropout(0.5)
    text = getattr(model, "text", model)
    for tower in (text, getattr(model, "text_decoder", None)):
        blocks = [] if tower is None else getattr(tower, "transformer", tower).resblocks
        if blocks:
            blocks[0].mlp.add_module("dropout", nn.Dropout(0.3))
            # A hook has all positions computed, so that each text has its own row of the mask.
            blocks[0].register_forward_hook(lambda *_: None)
    return model


def count_draws(task, batch):
    """Count what the pass for the cache draws, and what a whole forward pass draws."""
    counts = []
    for run in (task.encode_rows, task.forward):
        with torch.no_grad(), Draws() as draws:
            run(batch)
        counts.append(len(draws.drawn))
    return counts


def sort_draws(drawn, counts, num_batches):
    """Sort what a step of several batches drew, as two lists by batch: in the passes for the cache, in the others."""
    cached, whole = counts
    assert len(drawn) == num_batches * (cached + whole)
    ends = [cached * (at + 1) for at in range(num_batches)]
    ends += [cached * num_batches + whole * (at + 1) for at in range(num_batches)]
    parts = [drawn[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return parts[:num_batches], parts[num_batches:]


def join_draws(by_batch):
    """Join the draws of batches into those of the one large batch that they are parts of."""
    return [torch.cat(rows) for rows in zip(*by_batch, strict=True)]
