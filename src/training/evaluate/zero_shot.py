"""Classify images by the names of their classes alone, spread over all processes. Reads no files but class names.

Letters: B images, C classes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip import IMAGENET_CLASSNAMES
from open_clip.errors import DataError
from training.distributed import gather_objects
from training.evaluate.base import Evaluation, EvaluationKit, Measured
from training.evaluate.classifiers import Classifiers
from training.evaluate.hits import count_hits, top_k_of
from training.evaluate.protocols import EvaluatedTask
from training.evaluate.rows import ClassSet

CLASS_NAMES_FILE = "classnames.txt"


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


class ZeroShot(Evaluation):
    """Classifies the images of the kit's class sets by prompts of their class names."""

    name = "zero-shot"

    def __init__(self, kit: EvaluationKit) -> None:
        super().__init__(kit)
        self.pace = kit.zero_shot_pace
        self._classifiers = Classifiers(kit)

    def close(self) -> None:
        """Stop the processes that read the sets."""
        for one in self.kit.class_sets:
            one.loader.close()

    def measure(self, task: EvaluatedTask) -> Measured:
        """Classify every image and return top-1 and top-5 as shares, under the names ``SET-top1``, ``SET-top5``.

        Of five classes or fewer there is no top-5.

        Raises:
            DataError: no image of a set could be read.
        """
        metrics: dict[str, float] = {}
        for one in self.kit.class_sets:
            classifier = self._classifiers.get(task.model, one.classnames, one.loader.batch_size)
            metrics |= self._classify(task, one, classifier)
        return Measured(metrics)

    def _classify(self, task: EvaluatedTask, one: ClassSet, classifier: Tensor) -> dict[str, float]:
        model: Any = task.model
        top_k = top_k_of(len(one.classnames))
        hits, seen = torch.zeros(len(top_k), dtype=torch.int64), 0
        try:
            for batch in one.loader:
                number, images = len(batch.images), self.kit.fill(batch.images, one.loader.batch_size)
                received = task.prepare(one.receive(batch._replace(images=images)))
                with self.kit.autocast():
                    features = model.encode_image(received.images, normalize=True)[:number]
                found = count_hits(100.0 * features.float() @ classifier, received.tensor("labels"), top_k)
                hits, seen = found + hits.to(found.device), seen + number
        finally:
            # Their processes are needed seldom; the training data's should have the memory.
            one.loader.close()
        own = [*hits.tolist(), seen]
        *best, seen = (sum(column) for column in zip(*gather_objects(own, self.kit.world), strict=True))
        if not seen:
            raise DataError(f"{one.name}: no image could be read: see bad_samples.jsonl in the run folder.")
        return {f"{one.name}-top{k}": number / seen for k, number in zip(top_k, best, strict=True)}
