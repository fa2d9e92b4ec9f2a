"""Time what a save of ViT-B-32 and its AdamW state costs the training, and what verifying one costs its loading.

    python benchmarks/save_stall.py --folder DIR

Each round saves the same state as upstream does (``torch.save`` to the final name), in the training (written, flushed,
recorded), and beside it (copied, then written by a thread while steps of a small model run), and loads the result bare,
held to the checksums inside it, and held to its record. The equality beside it: both of our files have the same hashes,
though the state was changed in place while the second was being written. DIR needs 8 GB on the disk to be measured.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import open_clip
from open_clip.checkpoint import read_checkpoint
from training.checkpoint import (
    Background,
    Keeper,
    Manifest,
    Order,
    RunState,
    Saved,
    Snapshot,
    Trained,
    collect,
    read_verified,
)
from training.device import make_mixed_precision, resolve_precision, select_device
from training.distributed import World


def make_trained() -> Trained:
    """Build ViT-B-32 with an optimizer that has taken a step."""
    device = select_device("cpu")
    model = open_clip.create_model("ViT-B-32")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    mixed = make_mixed_precision(resolve_precision("fp32", device), device, torch.device("cpu"), None)
    return Trained(model, optimizer, mixed, device, World(0, 0, 1, 1))


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Steps:
    """Steps of a small model, as what a save may slow down."""

    def __init__(self) -> None:
        self.weight = torch.randn(512, 512, requires_grad=True)

    def __call__(self) -> None:
        """Take twenty of them, each of many short calls as a real step is."""
        for _ in range(20):
            rows = torch.ones(64, 512)
            for _ in range(12):
                rows = torch.nn.functional.gelu(rows @ self.weight).clamp(-1, 1)
            rows.sum().backward()  # type: ignore[no-untyped-call]


class Saves:
    """The three ways to save one state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained = make_trained()
        self.keeper = Keeper(folder)
        self.snapshot = Snapshot(self.trained.device)
        self.writer: Background[Saved] = Background()
        self.steps = Steps()

    def collect(self, step: int) -> dict[str, object]:
        """Give the payload of a step."""
        progress = {"epoch": 0, "step": step, "samples_seen": 0}
        payload = collect(RunState(self.trained, progress, Order(0, 1, 1), "bench"))
        # The two files are compared: nothing but their names may tell them apart.
        payload["global_step"] = progress["step"] = 0
        return payload

    def upstream(self) -> None:
        """Write as upstream does."""
        model, optimizer = self.trained.model, self.trained.optimizer
        state = {"epoch": 0, "name": "bench", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, self.folder / "upstream.pt")

    def within(self) -> None:
        """Write in the training."""
        self.keeper.save_epoch({**self.collect(1), "epoch": 1})

    def start_beside(self) -> None:
        """Copy, and start the writing."""
        copied = self.snapshot.take({**self.collect(1), "epoch": 1})
        self.writer.start(lambda: self.keeper.save_epoch({**copied, "epoch": 1}))


def run_round(saves: Saves) -> dict[str, float]:
    """Measure everything once, in turn."""
    figures = {"upstream": seconds(saves.upstream)}
    (saves.folder / "upstream.pt").unlink()
    os.sync()
    figures["in the training"] = seconds(saves.within)
    (record,) = Manifest(saves.folder).of("epoch_1.pt")
    (saves.folder / "epoch_1.pt").unlink()
    os.sync()
    alone = statistics.median(seconds(saves.steps) for _ in range(5))
    figures["beside the training"] = seconds(saves.start_beside)
    weight = next(iter(saves.trained.model.parameters()))
    with torch.no_grad():
        weight.add_(1)
    started, during = time.perf_counter(), []
    while saves.writer.take(wait=False) is None:
        during.append(seconds(saves.steps))
    figures["written after"] = time.perf_counter() - started
    figures["steps slower by"] = statistics.mean(during) / alone - 1 if during else 0.0
    with torch.no_grad():
        weight.sub_(1)
    if Manifest(saves.folder).of("epoch_1.pt")[-1].digest.sha256 != record.sha256:
        sys.exit("the file written beside the training differs from the one written in it; the figures mean nothing")
    path = saves.folder / "epoch_1.pt"
    for name, read in (
        ("load, bare", lambda: torch.load(path, weights_only=True)),
        ("load, checksums", lambda: read_checkpoint(path)),
        ("load, record", lambda: read_verified(path)),
    ):
        read()
        used = time.process_time()
        figures[name] = seconds(read)
        figures[f"{name}, CPU s"] = time.process_time() - used
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        figures[f"{name}, from disk"] = seconds(read)
    path.unlink()
    return figures


def main() -> None:
    """Run the rounds and print medians and paired ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder if not given")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="save_stall-", dir=options.folder))
    try:
        saves = Saves(folder)
        saves.start_beside()  # the first copy pays for its memory
        saves.writer.take(wait=True)
        rounds = [run_round(saves) for _ in range(options.rounds)]
    finally:
        shutil.rmtree(folder)
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        spread = f"({min(values):.3f} to {max(values):.3f})"
        print(f"{name:<32}{statistics.median(values):>9.3f}  {spread}")
    for above, below in (
        ("beside the training", "in the training"),
        ("beside the training", "upstream"),
        ("load, record", "load, bare"),
        ("load, checksums", "load, bare"),
        ("load, record, CPU s", "load, checksums, CPU s"),
        ("load, record, from disk", "load, bare, from disk"),
    ):
        ratios = [one[above] / one[below] for one in rounds]
        spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{above + ' / ' + below:<48}{statistics.median(ratios):>8.3f}  {spread}")


if __name__ == "__main__":
    main()
