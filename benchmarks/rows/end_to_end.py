"""The trainer itself, from tars to moved weights, in a process of its own; its own records give the rate."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.equality import IDENTICAL, Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.settings import Values

_WAIT_S = 240


class EndToEnd(Row):
    """Our trainer alone; what the peer is asked for is how many samples such a run must have seen."""

    unit = "samples"
    rules: ClassVar[Mapping[str, Rule]] = {"samples seen": IDENTICAL}
    sizes: ClassVar[Values] = {
        "model": "ViT-B-16",
        "batch": 512,
        "steps": 80,
        "skipped": 20,
        "precision": "amp_bf16",
        "workers": None,
    }
    tiny: ClassVar[Values] = {
        "model": "ViT-micro-8-32",
        "batch": 4,
        "steps": 30,
        "skipped": 10,
        "workers": 1,
        "images_made": 12,
    }

    def prepare(self) -> Values:
        """Choose the number of worker processes: a core is left to the trainer."""
        workers = self.size["workers"] or max(1, len(os.sched_getaffinity(0)) - 1)
        self.workers = int(workers)
        return {name: self.size[name] for name in ("model", "batch", "steps", "precision")} | {"workers": workers}

    def check(self) -> Answers:
        """Train, and count what was seen; say how much must be."""
        seen = self.size["batch"] * self.size["steps"]
        if self.side == "ours":
            self.records = self._train()
            seen = int(self.records[-1]["samples_seen"])
        return {"samples seen": {"count": torch.tensor(seen)}}

    def round(self, number: int) -> int:
        """Take the records of that run, less its first steps."""
        first = next(record for record in self.records if record["step"] >= self.size["skipped"])
        last = self.records[-1]
        self.seconds = last["time"] - first["time"]
        return int(last["samples_seen"] - first["samples_seen"])

    def measured_round(self) -> dict[str, float]:
        """Give the seconds between the first and the last record that count."""
        return {"wall_s": self.seconds, "device_s": self.seconds}

    def _train(self) -> list[Values]:
        size = self.size
        shards = sorted((self.settings.path / self.options["images"]).glob("*.tar"))
        pattern = f"{shards[0].parent}/{{{shards[0].stem}..{shards[-1].stem}}}.tar"
        logs, name = self.settings.path / "logs", f"run-{time.monotonic_ns()}"
        flags = {
            "train-data": pattern,
            "train-num-samples": size["batch"] * size["steps"],
            "model": size["model"],
            "batch-size": size["batch"],
            "precision": size["precision"],
            "device": self.settings.device,
            "workers": self.workers,
            "seed": self.settings.seed,
            "epochs": 1,
            "warmup": 10,
            "lr": 1e-5,
            "grad-clip-norm": 1.0,
            "save-frequency": 0,
            "logs": logs,
            "name": name,
        }
        words = [sys.executable, "-m", "training.main", "--dataset-resampled"]
        words += [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_WAIT_S, cwd=self.settings.path)
        if done.returncode:
            raise RuntimeError(f"the trainer ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return _train_records(logs / name / "metrics.jsonl")


def _train_records(path: Path) -> list[Values]:
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record["kind"] == "train"]
