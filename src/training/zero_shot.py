"""Door: zero-shot evaluation under upstream's names and signatures; the work is done in ``training.evaluate``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, build_zero_shot_classifier, get_tokenizer
from training.distributed import unwrap_model
from training.evaluate import count_hits
from training.precision import get_autocast

_METRICS = {"imagenet-val": "imagenet-zeroshot-val", "imagenet-v2": "imagenetv2-zeroshot-val"}


def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Count the rows of [B, C] scores whose target is among the k best, for each k."""
    return [float(count) for count in count_hits(output, target, topk).tolist()]


@torch.no_grad()
def run(
    model: torch.nn.Module, classifier: Tensor, dataloader: Iterable[tuple[Tensor, Tensor]], args: Any
) -> tuple[float, float]:
    """Classify a loader's (images, targets) and return top-1 and top-5 as shares; reads args.device, args.precision."""
    device = torch.device(args.device)
    bare: Any = unwrap_model(model)
    top1 = top5 = seen = 0.0
    for images, target in dataloader:
        with get_autocast(args.precision, device.type)():
            features = bare.encode_image(images.to(device), normalize=True)
        one, five = accuracy(100.0 * features.float() @ classifier.float(), target.to(device), (1, 5))
        top1, top5, seen = top1 + one, top5 + five, seen + len(target)
    return top1 / max(seen, 1), top5 / max(seen, 1)


def zero_shot_eval(
    model: torch.nn.Module, data: Mapping[str, Any], epoch: int, args: Any, tokenizer: Any = None
) -> dict[str, float]:
    """Evaluate ``data['imagenet-val']`` and ``data['imagenet-v2']``, where they are there and the epoch is due.

    Reads args.zeroshot_frequency, epochs, model, device, precision; an entry of ``data`` has a ``dataloader``.
    """
    present = [key for key in _METRICS if key in data]
    every = args.zeroshot_frequency
    if not present or not every or (epoch % every and epoch != args.epochs):
        return {}
    device = torch.device(args.device)
    with get_autocast(args.precision, device.type)():
        classifier = build_zero_shot_classifier(
            unwrap_model(model),
            tokenizer or get_tokenizer(args.model),
            IMAGENET_CLASSNAMES,
            OPENAI_IMAGENET_TEMPLATES,
            device=device,
        )
    metrics: dict[str, float] = {}
    for key in present:
        top1, top5 = run(model, classifier, data[key].dataloader, args)
        metrics |= {f"{_METRICS[key]}-top1": top1, f"{_METRICS[key]}-top5": top5}
    return metrics
