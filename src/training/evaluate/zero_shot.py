"""Classify pictures by the names of their classes alone, spread over all processes. Reads no files but class names.

Letters: B pictures, C classes, E embedding.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, build_zero_shot_classifier
from open_clip.errors import DataError
from training.data import Batch, EvalLoader, rank_slice
from training.distributed import World, gather_objects, gather_rows, unwrap_model
from training.tasks import Task

_LOG = logging.getLogger(__name__)

TOP_K = (1, 5)
CLASS_NAMES_FILE = "classnames.txt"
Autocast = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class ClassSet:
    """Pictures whose classes are to be found.

    Attributes:
        name: Beginning of its metrics, such as ``imagenet-zeroshot-val``.
        loader: This process's share; a batch's ``texts`` are class numbers, int64 [B].
        classnames: [C] in the order of the numbers.
        receive: Brings a batch to the device.
    """

    name: str
    loader: EvalLoader
    classnames: tuple[str, ...]
    receive: Callable[[Batch], Batch]


def read_class_names(folder: str | Path, num_classes: int) -> tuple[str, ...]:
    """Give the names of a folder's classes: those of its ``classnames.txt``, one a line, or else ImageNet's.

    Raises:
        DataError: there are not as many names as class folders.
    """
    path = Path(folder) / CLASS_NAMES_FILE
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        source = str(path)
    else:
        names, source = IMAGENET_CLASSNAMES, "ImageNet"
    if len(names) != num_classes:
        raise DataError(
            f"{folder} has {num_classes} class folders and {source} has {len(names)} names. Complete the folder, or "
            f"put a {CLASS_NAMES_FILE} there with one name a line in the order of the sorted class folders."
        )
    return names


def count_hits(scores: Tensor, labels: Tensor, top_k: Sequence[int] = TOP_K) -> list[int]:
    """Count the rows whose own class is among the k best scores.

    Args:
        scores: [B, C].
        labels: int64 [B].
        top_k: each k; more than C counts as C.
    """
    ranked = scores.topk(min(max(top_k), scores.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    return [int(hits[:, :k].any(dim=1).sum()) for k in top_k]


class ZeroShot:
    """The class sets of a run, and the classifier made for them last."""

    def __init__(self, sets: Sequence[ClassSet], tokenizer: Callable[..., Tensor]) -> None:
        self._sets = sets
        self._tokenizer = tokenizer
        self._classifiers: dict[tuple[str, ...], Tensor] = {}

    def close(self) -> None:
        """Stop the processes that read the sets."""
        for one in self._sets:
            one.loader.close()

    @torch.no_grad()
    def evaluate(self, task: Task, *, world: World, torch_device: torch.device, autocast: Autocast) -> dict[str, float]:
        """Classify every picture and return top-1 and top-5 as shares, under the names ``SET-top1``, ``SET-top5``.

        Raises:
            DataError: no picture of a set could be read.
        """
        model = unwrap_model(task.model)
        was_training = model.training
        model.eval()
        metrics: dict[str, float] = {}
        try:
            for one in self._sets:
                classifier = self._classifier(model, one.classnames, world, torch_device, autocast)
                metrics |= _classify(task, model, one, classifier, world, autocast)
        finally:
            model.train(was_training)
            if not _text_is_frozen(model):
                self._classifiers.clear()
        return metrics

    def _classifier(
        self, model: Any, classnames: tuple[str, ...], world: World, torch_device: torch.device, autocast: Autocast
    ) -> Tensor:
        """Build the classifier, each process a share of its classes; sets with the same classes share it."""
        if classnames not in self._classifiers:
            _LOG.info("Building the zero-shot classifier of %d classes", len(classnames))
            start, stop = rank_slice(len(classnames), world.rank, world.world_size)
            share = torch.empty(0, model.visual.output_dim, device=torch_device)
            if start < stop:
                with autocast():
                    columns = build_zero_shot_classifier(
                        model, self._tokenizer, classnames[start:stop], OPENAI_IMAGENET_TEMPLATES, device=torch_device
                    )
                share = columns.T.float().contiguous()
            self._classifiers[classnames] = gather_rows(share, world).T
        return self._classifiers[classnames]


def _classify(
    task: Task, model: Any, one: ClassSet, classifier: Tensor, world: World, autocast: Autocast
) -> dict[str, float]:
    counts = [0, 0, 0]
    try:
        for batch in one.loader:
            received = task.prepare(one.receive(batch))
            with autocast():
                features = model.encode_image(received.images, normalize=True)
            hits = count_hits(100.0 * features.float() @ classifier, received.texts)
            counts = [total + new for total, new in zip(counts, (*hits, len(received.texts)), strict=True)]
    finally:
        # Their processes are needed seldom; the training data's should have the memory.
        one.loader.close()
    top1, top5, seen = (sum(column) for column in zip(*gather_objects(counts, world), strict=True))
    if not seen:
        raise DataError(f"{one.name}: no picture could be read: see bad_samples.jsonl in the run folder.")
    return {f"{one.name}-top1": top1 / seen, f"{one.name}-top5": top5 / seen}


def _text_is_frozen(model: torch.nn.Module) -> bool:
    towers = ("visual.", "logit_")
    return not any(p.requires_grad for name, p in model.named_parameters() if not name.startswith(towers))
