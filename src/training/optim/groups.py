"""Which parameters are decayed, and how fast each layer learns; builds no optimizer."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.text import text_layer_groups


def is_undecayed(name: str, parameter: torch.Tensor, patterns: Sequence[str] = ()) -> bool:
    """Tell whether weight decay leaves a parameter alone: vectors, norms, biases, the logit scale, and patterns' own.

    Source: open_clip 3.3.0 (positional and class embeddings are decayed).
    """
    if parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale")):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def parameter_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    weight_decay: float,
    *,
    exclude: Sequence[str] = (),
    scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Sort trainable parameters into an undecayed and a decayed group, in that order.

    The order is upstream's, so optimizer states are interchangeable with it. With ``scales`` both are cut further, by
    factor of the learning rate from the lowest up; each group then holds its own as ``lr_scale``.

    Args:
        exclude: Patterns of names that are not decayed either.
        scales: Factor of each name's learning rate; 1 where a name is missing.
    """
    groups: dict[tuple[bool, float], list[torch.nn.Parameter]] = {(False, 1.0): [], (True, 1.0): []}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            key = (not is_undecayed(name, parameter, exclude), (scales or {}).get(name, 1.0))
            groups.setdefault(key, []).append(parameter)
    if not scales:
        return [{"params": groups[kind, 1.0], "weight_decay": weight_decay * kind} for kind in (False, True)]
    return [
        {"params": parameters, "weight_decay": weight_decay * is_decayed, "lr_scale": scale}
        for (is_decayed, scale), parameters in sorted(groups.items(), key=lambda item: item[0])
        if parameters
    ]


def layer_scales(model: torch.nn.Module, image_decay: float | None, text_decay: float | None) -> dict[str, float]:
    """Give each parameter's factor of the learning rate: ``decay ** distance`` from the output of its tower.

    A tower's last group (its projection) has distance 0, the last block 1, and so on down to the embeddings. What
    stands in no tower, such as the logit scale or a CoCa's decoder, is left out.
    """
    text = getattr(model, "text", None)
    towers: list[tuple[Any, float | None]] = [
        (getattr(model, "visual", None), image_decay),
        (text if text is not None else model, text_decay),
    ]
    distances: dict[int, float] = {}
    for tower, decay in towers:
        if decay is not None and tower is not None:
            groups = tower.layer_groups() if hasattr(tower, "layer_groups") else text_layer_groups(tower)
            for distance, group in enumerate(reversed(groups)):
                distances |= dict.fromkeys(map(id, _parameters(group)), decay**distance)
    return {name: distances[id(value)] for name, value in model.named_parameters() if id(value) in distances}


def _parameters(group: LayerGroup) -> list[torch.nn.Parameter]:
    found: list[torch.nn.Parameter] = []
    for part in group:
        if isinstance(part, torch.nn.Module):
            found += part.parameters()
        elif part is not None:
            found.append(part)
    return found
