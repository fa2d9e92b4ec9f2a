"""Classify images by the names of their classes alone, spread over all processes. Reads no files but class names.

Letters: B images, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip import IMAGENET_CLASSNAMES
from open_clip.errors import DataError
from open_clip.transformer.layout import TextShapes
from training.data import Batch, EvalLoader
from training.distributed import World, gather_objects, unwrap_model
from training.evaluate.classifiers import Classifiers
from training.evaluate.encode import Autocast, fill_batch
from training.tasks import Task

TOP_K = (1, 5)
CLASS_NAMES_FILE = "classnames.txt"


@dataclass(frozen=True)
class ClassSet:
    """Images whose classes are to be found.

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
    return [int(number) for number in _hits(scores, labels, top_k).tolist()]


def _hits(scores: Tensor, labels: Tensor, top_k: Sequence[int]) -> Tensor:
    """Count likewise on the device, without waiting for it; of equal scores the first class is the better."""
    own_B1 = labels[:, None]
    value_B1 = scores.gather(1, own_B1)
    is_earlier = torch.arange(scores.shape[1], device=scores.device) < own_B1
    # All that is not below: where the own score is not a number, everything.
    is_ahead = torch.where(is_earlier, ~(scores < value_B1), ~(scores <= value_B1))
    ahead = is_ahead.sum(dim=1)
    return torch.stack([(ahead < k).sum() for k in top_k])


class ZeroShot:
    """The class sets of a run and their classifiers."""

    def __init__(
        self, sets: Sequence[ClassSet], tokenizer: Callable[..., Tensor], shapes: TextShapes = "padded"
    ) -> None:
        self._sets = sets
        self._shapes = shapes
        self._classifiers = Classifiers(tokenizer, shapes)

    def close(self) -> None:
        """Stop the processes that read the sets."""
        for one in self._sets:
            one.loader.close()

    @torch.no_grad()
    def evaluate(self, task: Task, *, world: World, autocast: Autocast) -> dict[str, float]:
        """Classify every image and return top-1 and top-5 as shares, under the names ``SET-top1``, ``SET-top5``.

        Raises:
            DataError: no image of a set could be read.
        """
        model = unwrap_model(task.model)
        was_training = model.training
        model.eval()
        metrics: dict[str, float] = {}
        try:
            for one in self._sets:
                classifier = self._classifiers.get(
                    model, one.classnames, batch_size=one.loader.batch_size, world=world, autocast=autocast
                )
                metrics |= self._classify(task, model, one, classifier, world, autocast)
        finally:
            model.train(was_training)
        return metrics

    def _classify(
        self, task: Task, model: Any, one: ClassSet, classifier: Tensor, world: World, autocast: Autocast
    ) -> dict[str, float]:
        hits: Tensor | None = None
        seen = 0
        try:
            for batch in one.loader:
                number, images = len(batch.texts), batch.images
                if self._shapes == "bucketed":
                    images = fill_batch(images, one.loader.batch_size)
                received = task.prepare(one.receive(batch._replace(images=images)))
                with autocast():
                    features = model.encode_image(received.images, normalize=True)[:number]
                found = _hits(100.0 * features.float() @ classifier, received.texts.ids, TOP_K)
                hits, seen = found if hits is None else hits + found, seen + number
        finally:
            # Their processes are needed seldom; the training data's should have the memory.
            one.loader.close()
        counts = [0] * len(TOP_K) if hits is None else hits.tolist()
        *best, seen = (sum(column) for column in zip(*gather_objects([*counts, seen], world), strict=True))
        if not seen:
            raise DataError(f"{one.name}: no image could be read: see bad_samples.jsonl in the run folder.")
        return {f"{one.name}-top{k}": number / seen for k, number in zip(TOP_K, best, strict=True)}
