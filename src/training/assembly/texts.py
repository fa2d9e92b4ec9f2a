"""How the texts of a run are computed: with their padding, or in which form without it."""

import logging
from typing import cast

from torch import nn

from open_clip.transformer.layout import TextShapes
from training.assembly.place import Place
from training.data import ReadingRule, TextPlanner
from training.params import RunParams

_LOG = logging.getLogger(__name__)
_FORMS = {
    "packed": "packed, padding is not computed",
    "bucketed": "bucketed, at most four shapes of a few lengths are computed in place of all positions",
}


def evaluation_shapes(params: RunParams, place: Place) -> TextShapes:
    """Choose the flag's form, else the device's; right for evaluation, where no process waits for another's."""
    asked = params.model.text_shapes
    # Beside "auto" the flag takes the names of shapes alone.
    return place.device.text_shapes if asked == "auto" else cast(TextShapes, asked)


def make_text_planner(params: RunParams, place: Place, model: nn.Module) -> TextPlanner | None:
    """Choose the form for training and say so, once.

    Returns:
        What plans each batch; None where every position of the model's texts must be computed.
    """
    asked = params.model.text_shapes
    rule = ReadingRule.of(model)
    if rule is None:
        _LOG.info("text: padded: this model's text tower needs all positions%s", _unheeded(asked))
        return None
    shapes = evaluation_shapes(params, place)
    reason = f"--text-shapes {asked}" if asked != "auto" else f"--device {place.device.kind}"
    if asked == "auto" and params.model.torchcompile and shapes == "packed":
        shapes, reason = "bucketed", "--torchcompile makes a graph for each shape"
    if shapes == "bucketed" and params.fsdp.fsdp and place.world.is_distributed:
        # Each run of a sharded tower gathers weights: a process with more runs than the others would wait for ever.
        shapes, reason = "padded", "with --fsdp all processes must run the tower equally often"
    _LOG.info("text: %s (%s)", _FORMS.get(shapes, "padded, all positions are computed"), reason)
    return TextPlanner(shapes, rule)


def _unheeded(asked: str) -> str:
    return "" if asked in ("auto", "padded") else f"; --text-shapes {asked} has no effect"
