"""A training step on an accelerator: the peer's loop body against our trainer's stepper, batches already there."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.captions import describe_lengths, take
from benchmarks.equality import FEATURES, IDENTICAL, MODEL_GRADIENTS, Answers, Rule
from benchmarks.inputs import load_captions
from benchmarks.rows.base import Row
from benchmarks.rows.models import make_adamw, make_model, model_inputs
from benchmarks.rows.step import enumerate_named
from benchmarks.settings import Values

# Small, so that steps in bfloat16 from first weights stay comparable.
_LR = 1e-5
_CLIP_NORM = 1.0
# Values of each gradient that travel to the host and are compared.
_GRADIENT_VALUES = 20_000
_TEXT_BATCHES = 4


class DeviceStep(Row):
    """Optimizer steps in mixed precision; answers are compared in fp32, and losses as they are trained with."""

    unit = "steps"
    rules: ClassVar[Mapping[str, Rule]] = {
        "tokens": IDENTICAL,
        "features": FEATURES,
        "gradients": MODEL_GRADIENTS,
        "features in mixed precision": Rule("absolute", 5e-3),
        "losses in mixed precision": Rule("relative", 5e-3),
    }
    sizes: ClassVar[Values] = {
        "model": "ViT-B-32",
        "batch": 1024,
        "checked": 16,
        "steps": 10,
        "warm_up": 20,
        "precision": "amp_bf16",
        "compile": False,
    }
    tiny: ClassVar[Values] = {"model": "ViT-micro-8-32", "batch": 8, "checked": 4, "steps": 2, "warm_up": 1}

    def prepare(self) -> Values:
        """Build the model and what trains it; put the batches onto the device."""
        trainer_class = _OurTrainer if self.side == "ours" else _PeerTrainer
        self.trainer: _Trainer = trainer_class(self.size, self.settings.device)
        tokenizer, side = model_inputs(self.size["model"], self.trainer.model)
        captions = load_captions(self.options["captions"], self.settings)
        batch = self.size["batch"]
        ids = tokenizer(take(captions, 0, _TEXT_BATCHES * batch))
        generator = torch.Generator().manual_seed(self.settings.seed)
        pixels = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
        self.texts = ids.split(batch)
        self.trainer.load(pixels, self.texts)
        lengths = (ids.argmax(dim=1) + 1).tolist()
        facts = {name: self.size[name] for name in ("model", "batch", "precision", "compile")}
        return {**facts, "token lengths": describe_lengths(lengths), **self.trainer.facts()}

    def check(self) -> Answers:
        """Compare features and gradients of a few rows in fp32, then features and losses of mixed precision."""
        trainer, few = self.trainer, self.size["checked"]
        answers: Answers = {"tokens": {"texts": self.texts[0]}}
        with _plain_fp32():
            outputs = trainer.encode(few)
            answers["features"] = _features(outputs)
            trainer.loss(**outputs).backward()
            named = trainer.model.named_parameters()
            answers["gradients"] = {name: _sample(p.grad) for name, p in named if p.grad is not None}
            trainer.model.zero_grad(set_to_none=True)
        with torch.no_grad(), trainer.autocast():
            answers["features in mixed precision"] = _features(trainer.encode(few))
        losses = [trainer.step(number) for number in range(self.settings.checked_steps)]
        answers["losses in mixed precision"] = dict(enumerate_named(loss.detach().float() for loss in losses))
        return answers

    def warm_up(self) -> None:
        """Take the steps in which kernels are chosen, compiled and loaded."""
        for number in range(self.size["warm_up"]):
            self.trainer.step(number)

    def round(self, number: int) -> int:
        """Take steps; nothing of them is read."""
        for step in range(self.size["steps"]):
            self.trainer.step(step)
        return int(self.size["steps"])

    def close(self) -> None:
        """Let go of all that lies on the device."""
        del self.trainer


class _Trainer(ABC):
    """One side's model and how it takes a step."""

    model: Any
    loss: Any

    @abstractmethod
    def load(self, pixels: torch.Tensor, texts: tuple[torch.Tensor, ...]) -> None:
        """Put one batch of images, uint8, and several of texts onto the device."""

    @abstractmethod
    def encode(self, rows: int) -> dict[str, torch.Tensor]:
        """Run the model on the first rows."""

    @abstractmethod
    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of mixed precision."""

    @abstractmethod
    def step(self, number: int) -> torch.Tensor:
        """Take a step on the batch of texts whose turn it is; return the loss, unread."""

    def facts(self) -> Values:
        """Say what a reader must know of this side."""
        return {}


class _PeerTrainer(_Trainer):
    """The body of the peer's training loop, eager or compiled, in its own settings."""

    def __init__(self, size: Values, device: str) -> None:
        import open_clip

        _use_fast_fp32()
        self.device = device
        self.model = make_model(size["model"], "peer", device=device, output_dict=True).train()
        self.flops = count_flops(self.model, size["model"], device)
        self.optimizer = make_adamw(self.model, "peer", lr=_LR)
        self.loss = open_clip.ClipLoss()
        self.dtype = {"amp_bf16": torch.bfloat16, "amp": torch.float16, "fp32": None}[size["precision"]]
        self.runner = torch.compile(self.model) if size["compile"] else self.model

    def load(self, pixels: torch.Tensor, texts: tuple[torch.Tensor, ...]) -> None:
        import open_clip

        mean, std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        self.images = torch.stack([(image / 255 - mean) / std for image in pixels]).to(self.device)
        self.texts = [batch.to(self.device) for batch in texts]

    def encode(self, rows: int) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = self.model(self.images[:rows], self.texts[0][:rows])
        return outputs

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(torch.device(self.device).type, dtype=self.dtype, enabled=self.dtype is not None)

    def step(self, number: int) -> torch.Tensor:
        self.optimizer.zero_grad()
        with self.autocast():
            outputs = self.runner(self.images, self.texts[number % len(self.texts)])
            loss: torch.Tensor = self.loss(**outputs)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP_NORM)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        return loss

    def facts(self) -> Values:
        return {"peer's operations a sample and step": 3 * self.flops}


class _OurTrainer(_Trainer):
    """Our trainer's stepper with its guard, as a run on one device has it."""

    def __init__(self, size: Values, device: str) -> None:
        from open_clip.loss import ClipLoss
        from training.device import make_mixed_precision, resolve_precision, select_device
        from training.distributed import StopRequest, World
        from training.loop import StepGuard, Stepper
        from training.params import GuardParams
        from training.tasks import ClipTask

        self.place = select_device(device)
        self.device = self.place.activate()
        _use_fast_fp32()
        precision = resolve_precision(size["precision"], self.place)
        model = make_model(size["model"], "ours", precision=precision.model, device=self.device, output_dict=True)
        self.model = model.train()
        self.loss = ClipLoss()
        self.mixed = make_mixed_precision(precision, self.place, self.device)
        optimizer = make_adamw(model, "ours", device, lr=_LR)
        mean, std = model.visual.image_mean, model.visual.image_std
        self.task = ClipTask(model, self.loss, mean=mean, std=std, input_dtype=precision.input_dtype)
        alone = World(rank=0, local_rank=0, world_size=1, local_world_size=1)
        self.guard = StepGuard(GuardParams(), StopRequest(), alone, self.place, self.device)
        self.stepper = Stepper(
            self.task, optimizer, self.mixed, self.place, grad_clip_norm=_CLIP_NORM, guard=self.guard
        )
        self.shapes: Any = "bucketed" if size["compile"] else self.place.text_shapes
        self.has_unread = False
        if size["compile"]:
            model.compile()

    def load(self, pixels: torch.Tensor, texts: tuple[torch.Tensor, ...]) -> None:
        images = pixels.to(self.device)
        self.batches = [self._make_batch(images, batch) for batch in texts]

    def _make_batch(self, images: torch.Tensor, texts: torch.Tensor) -> Any:
        from training.data import Batch, plan_lengths

        lengths = texts.argmax(dim=1) + 1
        return Batch(images, plan_lengths(texts, lengths, self.shapes, len(texts))).to(self.device)

    def encode(self, rows: int) -> dict[str, torch.Tensor]:
        first = self.batches[0]
        batch = self.task.prepare(self._make_batch(first.images[:rows], first.texts.ids[:rows].cpu()))
        outputs: dict[str, torch.Tensor] = self.task.forward(batch)
        return outputs

    def autocast(self) -> AbstractContextManager[object]:
        return self.mixed.autocast()

    def step(self, number: int) -> torch.Tensor:
        result = self.stepper.step([self.batches[number % len(self.batches)]], _LR)
        # The verdict of the step before, as the trainer reads it: the device always has a step left to do.
        if self.has_unread:
            self.guard.read()
        self.has_unread = True
        return result.total

    def facts(self) -> Values:
        if self.shapes != "bucketed":
            return {"text shapes": self.shapes}
        runs = {shape for batch in self.batches for shape in batch.texts.layout.shapes}
        return {"text shapes": self.shapes, "shapes in these batches": len(runs)}


def count_flops(model: Any, name: str, device: str) -> int:
    """Count the operations of a sample's forward pass by a model as it stands, padding included."""
    tokenizer, side = model_inputs(name, model)
    images, texts = torch.zeros(2, 3, side, side, device=device), tokenizer(["one", "two"]).to(device)
    # Plain attention: its products are counted on every device, fused kernels' are not.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images, texts)
    return int(counter.get_total_flops()) // 2


class _plain_fp32:
    """Products and convolutions in fp32 proper, for as long as answers are compared."""

    def __enter__(self) -> None:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *error: object) -> None:
        _use_fast_fp32()


def _use_fast_fp32() -> None:
    """Set what both trainers set: TF32 for what stays in fp32, convolutions tried out."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def _features(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: outputs[name].detach().float() for name in ("image_features", "text_features")}


def _sample(gradient: torch.Tensor) -> torch.Tensor:
    """Take values evenly from a gradient, and its largest, which the rule measures by."""
    flat = gradient.detach().flatten()
    every = max(1, flat.numel() // _GRADIENT_VALUES)
    return torch.cat([flat[::every], flat[flat.abs().argmax()].reshape(1)])
