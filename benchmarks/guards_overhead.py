"""Time optimizer steps with all guards on against the same steps with none, in turn in one process.

    python benchmarks/guards_overhead.py

The figures are processor seconds of blocks of steps on one thread, on a device without work of its own (the CPU); each
pair is one block a side, and the order of the sides changes from pair to pair. The equality beside it: with clean data
both sides end with the same weights, bit for bit.
"""

import argparse
import copy
import statistics
import time

import torch

import open_clip
from open_clip.loss import ClipLoss
from open_clip.transformer.texts import Texts
from training.data import Batch
from training.device import make_mixed_precision, resolve_precision, select_device
from training.distributed import StopRequest, World
from training.loop import StepGuard, Stepper
from training.optim import build_optimizer
from training.params import GuardParams, RunParams, parse_args
from training.tasks import ClipTask

ALONE = World(rank=0, local_rank=0, world_size=1, local_world_size=1)


class Side:
    """A stepper with guards or without, and how it takes a block of steps."""

    def __init__(self, model: torch.nn.Module, name: str, is_guarded: bool) -> None:
        device = select_device("cpu")
        place = device.activate()
        params = RunParams.from_namespace(parse_args(["--model", name, "--val-data", "none"]))
        model = copy.deepcopy(model)
        optimizer = build_optimizer(model, params.optim, device)
        mixed = make_mixed_precision(resolve_precision("fp32", device), device, place)
        task = ClipTask(model, ClipLoss(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.guard = None
        if is_guarded:
            guards = GuardParams(on_loss_spike="skip")
            self.guard = StepGuard(guards, StopRequest(), ALONE, device, place)
        self.stepper = Stepper(task, optimizer, mixed, device, guard=self.guard)

    def block(self, batch: Batch, steps: int) -> float:
        """Take steps and give their processor seconds."""
        started = time.process_time()
        for _ in range(steps):
            self.stepper.step([batch], 1e-4)
            if self.guard is not None:
                self.guard.read()
        return time.process_time() - started

    def weights(self) -> torch.Tensor:
        """Give all weights as one vector."""
        return torch.nn.utils.parameters_to_vector(self.stepper.task.model.parameters()).detach()


def main() -> None:
    """Compare over the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="ViT-tiny-16-64")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="steps of a block")
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model(options.model, output_dict=True)
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.randint(0, 256, (options.batch_size, 3, height, width), dtype=torch.uint8)
    texts = open_clip.get_tokenizer(options.model)([f"image number {row}" for row in range(options.batch_size)])
    sides = {"off": Side(model, options.model, False), "on": Side(model, options.model, True)}
    for side in sides.values():
        side.block(Batch(images, Texts(texts)), 2)
    pairs = []
    for number in range(options.pairs):
        order = list(sides.items()) if number % 2 else list(sides.items())[::-1]
        pairs.append({name: side.block(Batch(images, Texts(texts)), options.steps) for name, side in order})
    if not torch.equal(sides["on"].weights(), sides["off"].weights()):
        raise SystemExit("the two sides trained to different weights; the figures mean nothing")
    off, on = (statistics.median(pair[name] for pair in pairs) / options.steps for name in ("off", "on"))
    ratios = sorted(pair["on"] / pair["off"] for pair in pairs)
    print(
        f"{options.model}, batch {options.batch_size}, fp32, one thread, {options.pairs} pairs of {options.steps} steps"
    )
    print(f"CPU s a step: guards off {off:.4f}, on {on:.4f}")
    print(f"on / off: median {statistics.median(ratios):.4f} (lowest {ratios[0]:.4f}, highest {ratios[-1]:.4f})")


if __name__ == "__main__":
    main()
