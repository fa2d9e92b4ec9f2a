"""Image classification: an image tower of any model here with a linear head, on images that are sorted into classes.

With ``--lock-image`` only the head is trained, a linear probe.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from open_clip.errors import ConfigError, cut_list, printable
from open_clip.families.image_classifier.model import ImageClassifier
from open_clip.files import read_plain
from open_clip.protocols import EncodesImages
from open_clip.transform import normalize_images
from training.data import Batch, Field, FieldKit, list_classes
from training.distributed import World, mean_over_processes
from training.evaluate import Accuracy, Evaluation, EvaluationKit
from training.params import RunParams
from training.params.flags import flag
from training.params.values import number, path
from training.tasks.base import Outputs, Setup, Task

_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class ClassifyFlags:
    """Classification."""

    label_smoothing: float = flag(
        0.0, "share of a row's weight that is spread over all classes, such as 0.1", type=number(0.0, below=1.0)
    )
    class_names: str | None = flag(
        None,
        "file with the name of a class a line, in the order of the class numbers (default: the class folders of "
        "--train-data)",
        type=path,
    )


class ClassifyTask(Task):
    """Train an image tower and a head to tell the class of an image."""

    name = "classify"
    Flags = ClassifyFlags

    def __init__(
        self,
        model: ImageClassifier,
        *,
        world: World,
        label_smoothing: float,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.classes = model.classes
        self._world = world
        self._label_smoothing = label_smoothing
        self._mean, self._std, self._input_dtype = mean, std, input_dtype

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Refuse models without an image tower that gives one feature an image."""
        return None if hasattr(model, "visual") and isinstance(model, EncodesImages) else "it has no image tower"

    @classmethod
    def build(cls, setup: Setup) -> "ClassifyTask":
        """Put a head on the model's image tower, or go on with the head that it has."""
        smoothing, classes = _flags(setup.params).label_smoothing, _read_classes(setup.params)
        if isinstance(setup.model, ImageClassifier):
            if setup.model.classes != classes:
                raise ConfigError(
                    f"--model {printable(setup.params.model.model, 200)} tells {_listed(setup.model.classes)}, and the "
                    f"data has {_listed(classes)}. Take a model without a head, or the data that it was trained on."
                )
            return cls(setup.model, world=setup.world, label_smoothing=smoothing, **setup.options)
        if not setup.params.data.trains and setup.params.checkpoint.resume is None:
            raise ConfigError("there is no trained head to evaluate: give --resume FILE, or --train-data to train one.")
        model = _add_head(setup.model, classes)
        return cls(model, world=setup.world, label_smoothing=smoothing, **setup.options)

    @classmethod
    def fields(cls, kit: FieldKit, params: RunParams) -> tuple[Field, ...]:
        """Read images and the numbers of their classes."""
        return kit.image(), kit.label(num_classes=len(_read_classes(params)))

    def prepare(self, batch: Batch) -> Batch:
        """Normalise the images."""
        images = normalize_images(batch.images, self._mean, self._std)
        return batch._replace(images=images if self._input_dtype is None else images.to(self._input_dtype))

    def forward(self, batch: Batch) -> Outputs:
        """Score the classes: scores [B, C], beside labels [B]."""
        return {"scores": self.model(batch.images), "labels": batch.tensor("labels")}

    def step_totals(self, batches: Sequence[Batch]) -> Outputs:
        """Count the rows of the whole step, a process's share of them."""
        rows = torch.tensor(float(sum(len(batch.images) for batch in batches)), device=batches[0].images.device)
        return {"num_rows": mean_over_processes(rows, self._world)}

    def row_losses(self, outputs: Outputs) -> Outputs:
        """Compute a batch's share of the mean cross entropy."""
        losses = F.cross_entropy(
            outputs["scores"].float(), outputs["labels"], label_smoothing=self._label_smoothing, reduction="sum"
        )
        return {"class_loss": losses / outputs["num_rows"]}

    def class_scores(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Score a prepared batch: [B, C], with the class numbers, int64 [B]."""
        outputs = self.forward(batch)
        return outputs["scores"], outputs["labels"]

    def evaluations(self, kit: EvaluationKit) -> tuple[Evaluation, ...]:
        """Measure top-1 and top-5 accuracy, with a table of confusions and a gallery of mistakes."""
        return (Accuracy(kit, self.classes),) if kit.rows is not None else ()


def _flags(params: RunParams) -> ClassifyFlags:
    assert isinstance(params.own, ClassifyFlags)
    return params.own


def _read_classes(params: RunParams) -> tuple[str, ...]:
    """Find the names of the classes: in the file of the flag, or those of the class folders.

    Raises:
        ConfigError: there are neither, or the folders of both sets have other names.
    """
    given = _flags(params).class_names
    if given is not None:
        try:
            text = read_plain(given, _MOST_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--class-names {printable(given, 200)} cannot be read: {error}") from error
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    folders = [one for one in (params.data.train_data, params.data.val_data) if one and os.path.isdir(one)]
    names = [tuple(list_classes(folder)) for folder in folders]
    if not names:
        raise ConfigError(
            "--task classify: the names of the classes are not known. Give a folder of class folders as --train-data, "
            "or --class-names FILE with a name a line."
        )
    if names[0] != names[-1]:
        raise ConfigError(
            f"the class folders of --train-data are {_listed(names[0])}, those of --val-data {_listed(names[-1])}: "
            "both need the same. Complete them, or give --class-names FILE."
        )
    return names[0]


def _add_head(model: Any, classes: tuple[str, ...]) -> ImageClassifier:
    """Put a random head on the image tower of a model, and say so in what the model was made of."""
    cfg = model.origin.model_cfg
    made = ImageClassifier.on_tower(model.visual, cfg["embed_dim"], classes)
    weight = next(model.visual.parameters())
    made.head.to(weight.device, weight.dtype)
    kept = {name: cfg[name] for name in ("embed_dim", "vision_cfg", "quick_gelu") if name in cfg}
    described = {"family": "image_classifier", **kept, "classes": list(classes)}
    made.origin = replace(model.origin, model_cfg=described)
    return made


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({cut_list(names, 5)})"
