"""Which parameters are decayed, and how fast each layer learns; builds no optimizer."""

import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch

from open_clip.protocols import HasLayerGroups
from open_clip.transformer.freezing import LayerGroup

#: A parameter group: `params`, and settings by the optimizer's own names.
Group = dict[str, Any]
#: What an optimizer keeps, as its ``state_dict`` gives it, or of one parameter; each has names of its own.
State = dict[str, Any]


def _has_openclips_words(name: str) -> bool:
    return any(word in name for word in ("bn", "ln", "bias", "logit_scale"))


# By the names of --decay-rule: whether a rule leaves a parameter undecayed, told from its name and its value.
_UNDECAYED: dict[str, Callable[[str, torch.Tensor], bool]] = {
    # Vectors, norms, biases, the logit scale; positional and class embeddings are decayed. Source: open_clip 3.3.0.
    "openclip": lambda name, value: value.ndim < 2 or _has_openclips_words(name),
    # By name alone, so norms under other names (BERT's LayerNorm, a ResNet's downsample.1) are decayed, and class
    # embeddings too. Source: Chinese-CLIP, cn_clip/training/main.py.
    "cn": lambda name, _: _has_openclips_words(name),
    # Nothing is spared. Source: Long-CLIP, train/train.py, which gives AdamW all parameters as one group.
    "all": lambda *_: False,
    # Vectors and biases; tokens and position tables are told by the model, see `find_undecayed`.
    # Source: MAE, util/lr_decay.py, and timm's optimizers.
    "mae": lambda name, value: value.ndim < 2 or name.endswith("bias"),
}


def find_undecayed(rule: str, model: torch.nn.Module, prefix: str = "") -> set[str]:
    """Name the parameters that a rule leaves undecayed because the model asks for it, with ``no_weight_decay()``.

    Only ``mae`` asks: class, mask and position tokens and tables of relative positions are such parameters.
    """
    if rule != "mae":
        return set()
    found: set[str] = set()
    for path, module in model.named_modules(prefix=prefix):
        answer = getattr(module, "no_weight_decay", None)
        if callable(answer):
            found |= {f"{path}.{name}" if path else name for name in answer()}
    return found


def parameter_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    weight_decay: float,
    *,
    exclude: Collection[str] = (),
    scales: Mapping[str, float] | None = None,
    rule: str = "openclip",
) -> list[Group]:
    """Sort trainable parameters into an undecayed and a decayed group, in that order.

    The order is upstream's, so optimizer states are interchangeable with it. With ``scales`` both are cut further, by
    factor of the learning rate from the lowest up; each group then holds its own as ``lr_scale``.

    Args:
        exclude: Patterns of names that are not decayed either.
        scales: Factor of each name's learning rate; 1 where a name is missing.
        rule: Which parameters are not decayed, by the names of ``--decay-rule``.
    """
    groups: dict[tuple[bool, float], list[torch.nn.Parameter]] = {(False, 1.0): [], (True, 1.0): []}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_spared = any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)
            is_decayed = not is_spared and not _UNDECAYED[rule](name, parameter)
            key = (is_decayed, (scales or {}).get(name, 1.0))
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
    groups = model.layer_groups() if isinstance(model, HasLayerGroups) else {}
    distances: dict[int, float] = {}
    for tower, decay in (("image", image_decay), ("text", text_decay)):
        if decay is not None:
            for distance, group in enumerate(reversed(groups.get(tower, ()))):
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
