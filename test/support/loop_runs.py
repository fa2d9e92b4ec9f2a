"""Small training loops without files: a micro model, batches that a test makes, checkpoints kept in memory."""

import copy
import math
from contextlib import AbstractContextManager

import torch

import open_clip
from open_clip.loss import ClipLoss
from open_clip.transformer.texts import Texts
from training.data import Batch
from training.device import Precision, make_mixed_precision
from training.device.cpu import CpuDevice
from training.distributed import StopRequest, World
from training.loop import (
    Feed,
    Hook,
    Hooks,
    Plan,
    Progress,
    Recorder,
    Recovery,
    StepGuard,
    Stepper,
    Trainer,
    Wants,
)
from training.optim import Length
from training.params import GuardParams
from training.tasks import ClipTask

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
ALONE = World(rank=0, local_rank=0, world_size=1, local_world_size=1)
FP32 = Precision("fp32", "fp32")
SCALED = Precision("amp", "amp", autocast_dtype=torch.float16, scaled=True)


class SkippingCpu(CpuDevice):
    """A CPU that answers as an accelerator whose optimizer skips on the device: torch's fused CPU kernel does."""

    def can_skip_update(self, optimizer):
        return True


def make_task(model="ViT-micro-8-32", **options):
    """Make the contrastive task of a small model, the same each time."""
    torch.manual_seed(0)
    return ClipTask(open_clip.create_model(model, output_dict=True, **options), ClipLoss(), mean=MEAN, std=STD)


def make_batches(count, rows=4, seed=1):
    """Make float batches, normalised already, so that a test can put any number into a pixel."""
    generator = torch.Generator().manual_seed(seed)
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32")
    batches = []
    for number in range(count):
        images = torch.rand(rows, 3, 32, 32, generator=generator) * 2 - 1
        batches.append(Batch(images, Texts(tokenizer([f"image {rows * number + row}" for row in range(rows)]))))
    return batches


class Batches:
    """A loader of the same batches in every epoch."""

    def __init__(self, batches):
        self.batches = batches
        self.num_batches = len(batches)
        self.num_samples = sum(len(batch.texts) for batch in batches)

    def epoch(self, epoch, start_batch=0):
        """Give the batches from ``start_batch`` on."""
        return iter(self.batches[start_batch:])


def feed_of(loader):
    """Bring a loader's batches to the loop as they are."""
    return Feed(loader, lambda steps: steps, lambda batch: batch)


class Events(Recorder):
    """Keeps what the loop tells."""

    def __init__(self):
        self.heard = []
        self.losses = {}

    def event(self, name, *, step, **detail):
        self.heard.append((name, step, detail))

    def rolled_back(self, progress, *, reason, **detail):
        self.heard.append(("rollback", progress.step, {"reason": reason, **detail}))

    def step(self, record):
        self.losses[record.step] = record.losses["loss"][0]


class SaveEvery(Hook):
    """Saves after every so many steps, and at the end of an epoch."""

    def __init__(self, steps, save):
        self.steps, self._save = steps, save

    def step_done(self, step):
        return Wants.SAVE if self.steps and step % self.steps == 0 else Wants.NOTHING

    def save(self, moment):
        self._save()


class SmallRun(AbstractContextManager):
    """A training loop whose checkpoints are copies in memory."""

    def __init__(
        self,
        batches,
        *,
        epochs=1,
        max_steps=None,
        hooks=(),
        device=None,
        precision=FP32,
        loss_scale=None,
        clip=None,
        fused=True,
        save_every=0,
        accum_freq=1,
        task=None,
        lr=1e-3,
        world=ALONE,
        bad_rows=lambda: 0,
        check_bad_rows=lambda count: None,
        **guards,
    ):
        self.task = make_task() if task is None else task
        device = CpuDevice() if device is None else device
        cpu = torch.device("cpu")
        self.optimizer = torch.optim.AdamW(self.task.model.parameters(), lr=lr, fused=fused)
        self.mixed = make_mixed_precision(precision, device, cpu, loss_scale)
        self.progress, self.events, self.stop = Progress(), Events(), StopRequest()
        self.trained_on, self.saved, self.keep_saving = [], [], True
        params = GuardParams(**guards)
        length = Length(math.ceil(len(batches) / accum_freq), epochs, max_steps)
        self.guard = StepGuard(params, self.stop, world, device, cpu, bad_rows)
        self.stepper = Stepper(self.task, self.optimizer, self.mixed, device, grad_clip_norm=clip, guard=self.guard)
        self.trainer = Trainer(
            self.stepper,
            feed_of(Batches(batches)),
            lambda step: lr,
            plan=Plan(length, accum_freq=accum_freq, log_every_n_steps=1),
            progress=self.progress,
            hooks=Hooks([SaveEvery(save_every, self.save), *hooks]),
            roll_back=self.go_back,
            recorder=self.events,
            guard=self.guard,
            recovery=Recovery(params, self.progress, self.events, 4, check_bad_rows),
            world=world,
            batch_size=4,
        )

    def __exit__(self, *error):
        return None

    def state(self):
        """Copy everything that training changes."""
        state = {
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.mixed.state_dict(),
            "random": torch.get_rng_state(),
            "progress": self.progress.state_dict(),
        }
        return copy.deepcopy(state)

    def restore(self, state):
        """Put a copy back and give its progress."""
        state = copy.deepcopy(state)
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.mixed.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        return Progress.from_state_dict(state["progress"])

    def save(self):
        """Keep a copy."""
        self.saved.append(self.state())

    def go_back(self):
        """Put the newest copy back."""
        return (self.restore(self.saved[-1]), "memory") if self.saved else None

    def train(self):
        """Run the loop to its end."""
        self.trainer.train()
        return self
