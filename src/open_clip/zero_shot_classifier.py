"""Turning class names into the weights of a classifier for image features. Nothing is classified here.

Letters: E embedding, C classes, T templates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.errors import ConfigError

Template = Callable[[str], str] | str
_Item = TypeVar("_Item")


def batched(iterable: Iterable[_Item], n: int) -> Iterator[list[_Item]]:
    """Give the items in lists of ``n``; the last may be shorter."""
    iterator = iter(iterable)
    while batch := list(islice(iterator, n)):
        yield batch


def _write_prompts(classname: str, templates: Sequence[Template]) -> list[str]:
    return [template.format(classname) if isinstance(template, str) else template(classname) for template in templates]


def _check(classnames: Sequence[str], templates: Sequence[Template], num_classes_per_batch: int) -> None:
    for name, values in (("classnames", classnames), ("templates", templates)):
        if isinstance(values, str) or not len(values):
            raise ConfigError(f"a zero-shot classifier needs a list of {name}; it is {values!r}.")
    if num_classes_per_batch < 1:
        raise ConfigError(f"num_classes_per_batch is {num_classes_per_batch}; it is at least 1, or None for all.")


@torch.no_grad()
def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[..., Tensor],
    classnames: Sequence[str],
    templates: Sequence[Template],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Average each class's prompts, several classes at a time.

    Args:
        model: any with ``encode_text(tokens, normalize=True)``, on ``device``.
        tokenizer: turns a list of texts into tokens.
        templates: functions of a class name, or texts with ``{}`` in its place.
        num_classes_per_batch: classes encoded at once; None = all.
        use_tqdm: show a progress bar.

    Returns:
        [E, C] with columns of length one: ``image_features @ it`` are cosines.

    Raises:
        ConfigError: no classes or no templates.

    Source: open_clip.zero_shot_classifier (3.3.0).
    """
    size = len(classnames) if num_classes_per_batch is None else num_classes_per_batch
    _check(classnames, templates, size if len(classnames) else 1)
    columns = []
    for batch in _progress(list(batched(classnames, size)), use_tqdm):
        prompts = [prompt for classname in batch for prompt in _write_prompts(classname, templates)]
        features = model.encode_text(tokenizer(prompts).to(device), normalize=True)
        means = features.reshape(len(batch), len(templates), -1).mean(dim=1)
        columns.append((means / means.norm(dim=1, keepdim=True)).T)
    return torch.cat(columns, dim=1)


@torch.no_grad()
def build_zero_shot_classifier_legacy(
    model: Any,
    tokenizer: Callable[..., Tensor],
    classnames: Sequence[str],
    templates: Sequence[Template],
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Average each class's prompts, one class at a time; arguments and result as ``build_zero_shot_classifier``.

    Raises:
        ConfigError: no classes or no templates.
    """
    _check(classnames, templates, 1)
    columns = []
    for classname in _progress(classnames, use_tqdm):
        tokens = tokenizer(_write_prompts(classname, templates)).to(device)
        mean = F.normalize(model.encode_text(tokens), dim=-1).mean(dim=0)
        columns.append(mean / mean.norm())
    return torch.stack(columns, dim=1)


def _progress(items: Sequence[_Item], use_tqdm: bool) -> Iterable[_Item]:
    if not use_tqdm:
        return items
    from tqdm import tqdm

    bar: Iterable[_Item] = tqdm(items)
    return bar
