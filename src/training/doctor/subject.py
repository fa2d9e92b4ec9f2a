"""The model and the batch that are measured: random weights of a fixed seed, drawn images, captions of many lengths."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import open_clip
from open_clip.errors import DeviceError
from open_clip.loss import ClipLoss
from open_clip.transformer.texts import Texts
from training.data import Batch, ReadingRule, TextPlanner
from training.device import Device, MixedPrecision, make_mixed_precision, resolve_precision
from training.doctor.parts import Conditions
from training.loop import Stepper
from training.tasks import ClipTask

_SEED = 0
_WORDS = "a photo of two red birds and one small dog that run over the wet grass beside an old wooden bridge at dawn"
# Under half of where fp16 ends for gradients of a CLIP loss, over what they need: no step is left out.
_LOSS_SCALE = 2.0**10


@dataclass
class Subject:
    """A model on the host in fp32, a batch for it, and how many text tokens that batch has without its padding."""

    model: Any
    batch: Batch
    tokens: int


@dataclass
class Trainee:
    """A copy of the model on a device, with what trains it in one precision."""

    task: ClipTask
    optimizer: torch.optim.Optimizer
    mixed: MixedPrecision
    batch: Batch

    def make_stepper(self, device: Device) -> Stepper:
        """Make the trainer's own optimizer step."""
        return Stepper(self.task, self.optimizer, self.mixed, device, begin_step=device.begin_step)


def make_subject(conditions: Conditions, rows: int, shapes: Any) -> Subject:
    """Build the model and ``rows`` pairs for it.

    Args:
        conditions: The model's name.
        rows: Images and captions in the batch.
        shapes: In which shapes a device computes texts: its ``text_shapes``.

    Raises:
        ModelNotFound: There is no model of this name.
    """
    torch.manual_seed(_SEED)
    model: Any = open_clip.create_model(conditions.model, load_weights=False, output_dict=True)
    size = model.visual.image_size
    sides = size if isinstance(size, tuple) else (size, size)
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randint(0, 256, (rows, 3, *sides), dtype=torch.uint8, generator=generator)
    words = _WORDS.split()
    captions = [" ".join(words[: 1 + at % len(words)]) for at in range(rows)]
    ids = open_clip.get_tokenizer(conditions.model)(captions)
    rule = ReadingRule.of(model)
    texts = Texts(ids) if rule is None else TextPlanner(shapes, rule)(ids)
    return Subject(model, Batch(images, texts), int((ids != 0).sum()))


def make_trainee(subject: Subject, device: Device, precision: str, lr: float = 1e-5) -> Trainee:
    """Copy the model to a device and make its optimizer and precision, as the trainer does.

    Raises:
        DeviceError: The device has no such precision.
    """
    resolved = resolve_precision(precision, device)
    target = device.torch_device()
    model = copy.deepcopy(subject.model).to(target)
    parameters = list(model.parameters())
    options: Any = device.optimizer_options(parameters)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=lr, **options)
    mixed = make_mixed_precision(resolved, device, target, _LOSS_SCALE if resolved.scaled else None)
    model, optimizer = mixed.prepare(model, optimizer)
    visual = subject.model.visual
    task = ClipTask(model, ClipLoss(), mean=visual.image_mean, std=visual.image_std, input_dtype=resolved.input_dtype)
    return Trainee(task, optimizer, mixed, subject.batch.to(target, non_blocking=False))


def features_and_gradients(trainee: Trainee) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run forward and backward once.

    Returns:
        Image and text features [B, E] and the loss []; and the gradient of each parameter by name. All on the host.
    """
    model = trainee.task.model
    batch = trainee.task.prepare(trainee.batch)
    with trainee.mixed.autocast():
        outputs = trainee.task.forward(batch)
        loss = torch.stack([*trainee.task.joint_losses(outputs).values()]).sum()
    trainee.mixed.backward(loss)
    trainee.mixed.unscale(trainee.optimizer)
    named = {
        "image features": outputs["image_features"],
        "text features": outputs["text_features"],
        "loss": loss,
    }
    gradients = {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach().cpu() for name, value in named.items()}, gradients


def effective_precisions(device: Device, wanted: tuple[str, ...]) -> list[str]:
    """Leave out of these precisions those that the device has not, and those that compute as one before them does."""
    found: dict[str, str] = {}
    for name in wanted:
        try:
            found.setdefault(resolve_precision(name, device).effective, name)
        except DeviceError:
            continue
    return list(found.values())
