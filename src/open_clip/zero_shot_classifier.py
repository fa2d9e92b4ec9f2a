"""Turning class names into the weights of a classifier for image features. Nothing is classified here.

Letters: E embedding, C classes, T templates, L tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.errors import ConfigError

# Batches whose prompts are sorted together.
_BATCHES_SORTED = 16
# A host is fastest with texts whose hidden values fit its cache.
_MOST_ON_HOST = 256

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


def tokenize_prompts(
    tokenizer: Callable[..., Tensor], classnames: Sequence[str], templates: Sequence[Template]
) -> Tensor:
    """Write and tokenise every class's prompts, class by class: [C * T, L].

    Raises:
        ConfigError: no classes or no templates.
    """
    _check(classnames, templates, 1)
    return tokenizer([prompt for classname in classnames for prompt in _write_prompts(classname, templates)])


@torch.no_grad()
def average_prompts(
    encode: Callable[[Tensor], Tensor],
    lengths: Tensor,
    num_templates: int,
    batch_size: int,
    use_tqdm: bool = False,
) -> Tensor:
    """Average the features of each class's prompts, which are encoded shortest first over the bounds of classes.

    Args:
        encode: gives the features [n, E], of length one, of the prompts of some numbers, int64 [n].
        lengths: [C * T] what the prompts are sorted by; batches of one length have little padding.
        num_templates: T.
        batch_size: prompts encoded at once.
        use_tqdm: show a progress bar.

    Returns:
        [E, C] with columns of length one.
    """
    # Not all classes together, so that only the features of some are held.
    window = max(1, _BATCHES_SORTED * batch_size // num_templates) * num_templates
    parts = torch.split(lengths, window)
    progress = iter(_progress(range(sum(-(-len(part) // batch_size) for part in parts)), use_tqdm))
    columns = []
    for number, part in enumerate(parts):
        order = part.argsort(stable=True)
        found = []
        for chosen in torch.split(order, batch_size):
            next(progress)
            found.append(encode(chosen + number * window))
        features = torch.cat(found)[order.argsort().to(found[0].device)]
        means = features.reshape(-1, num_templates, features.shape[-1]).mean(dim=1)
        columns.append((means / means.norm(dim=1, keepdim=True)).T)
    next(progress, None)
    return torch.cat(columns, dim=1)


def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[..., Tensor],
    classnames: Sequence[str],
    templates: Sequence[Template],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Average each class's prompts, as many at a time as several classes have.

    Args:
        model: any with ``encode_text(tokens, normalize=True)``, on ``device``.
        tokenizer: turns a list of texts into tokens.
        templates: functions of a class name, or texts with ``{}`` in its place.
        num_classes_per_batch: classes whose prompts are as many as are encoded at once; None = all.
        use_tqdm: show a progress bar.

    Returns:
        [E, C] with columns of length one: ``image_features @ it`` are cosines.

    Raises:
        ConfigError: no classes or no templates.

    Source: open_clip.zero_shot_classifier (3.3.0).
    """
    size = len(classnames) if num_classes_per_batch is None else num_classes_per_batch
    _check(classnames, templates, size if len(classnames) else 1)
    return _build(
        lambda tokens: model.encode_text(tokens, normalize=True),
        tokenize_prompts(tokenizer, classnames, templates),
        len(templates),
        size,
        device,
        use_tqdm,
    )


def build_zero_shot_classifier_legacy(
    model: Any,
    tokenizer: Callable[..., Tensor],
    classnames: Sequence[str],
    templates: Sequence[Template],
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Average each class's prompts, as many at a time as a class has; like ``build_zero_shot_classifier`` otherwise.

    The model need not know how to normalise.

    Raises:
        ConfigError: no classes or no templates.
    """
    return _build(
        lambda tokens: F.normalize(model.encode_text(tokens), dim=-1),
        tokenize_prompts(tokenizer, classnames, templates),
        len(templates),
        1,
        device,
        use_tqdm,
    )


def _build(
    encode: Callable[[Tensor], Tensor],
    tokens: Tensor,
    num_templates: int,
    num_classes_per_batch: int,
    device: str | torch.device,
    use_tqdm: bool,
) -> Tensor:
    most = _MOST_ON_HOST if torch.device(device).type == "cpu" else len(tokens)
    return average_prompts(
        lambda chosen: torch.cat([encode(tokens[some].to(device)) for some in torch.split(chosen, most)]),
        # Where the end of the text is read, and near enough elsewhere: it has the highest id, and padding the lowest.
        tokens.argmax(dim=-1),
        num_templates,
        num_classes_per_batch * num_templates,
        use_tqdm,
    )


def _progress(items: Sequence[_Item], use_tqdm: bool) -> Iterable[_Item]:
    if not use_tqdm:
        return items
    from tqdm import tqdm

    bar: Iterable[_Item] = tqdm(items)
    return bar
