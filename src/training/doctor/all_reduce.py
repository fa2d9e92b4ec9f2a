"""Start the processes of an all-reduce trial and read what they saw."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.device import Device
from training.doctor.findings import Difference, Finding, judge
from training.doctor.processes import run_program

_WHAT = "all-reduce"
# Sums of two fp32 numbers; a sum of more, in whatever order, stays under it too.
_BOUND = 1e-6


def all_reduce_findings(device: Device, seconds: float, limit_s: float) -> Iterator[Finding]:
    """Add up tensors over two processes, or one where there is one card, with a bandwidth for each size.

    Args:
        device: Whose collective library is tried; it need not be activated.
        seconds: How long each size is timed; 0 looks at the sum alone.
        limit_s: When to give up.
    """
    processes = 2 if device.process_limit() is None else min(2, device.count())
    if processes == 1 and seconds:
        yield Finding("all-reduce between two cards", state="not tried", why=f"one {device.kind} card is visible")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        answer = Path(folder) / "answer.json"
        words = ["-m", "training.doctor.exchange", "--device", device.kind, "--out", str(answer)]
        words += ["--seconds", str(seconds if processes > 1 else 0)]
        if processes > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
            words = [*launcher, "--nproc-per-node", str(processes), *words]
        # What a job's launcher left in this shell would place these processes in a run of its own.
        environ = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
        ended = run_program(words, limit_s, environ)
        if answer.is_file():
            yield from _read(json.loads(answer.read_text(encoding="utf-8")))
        if ended.status != 0:
            what = f"{_WHAT}, ending" if answer.is_file() else _WHAT
            yield Finding(what, state="failed", why=ended.describe("all-reduce failed: "))


LAUNCHER_VARIABLES = frozenset(
    ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK_ID", "RANK_SIZE")
) | {"RANK_TABLE_FILE", "TORCHELASTIC_RUN_ID"}


def _read(answer: dict[str, Any]) -> Iterator[Finding]:
    who = f"{answer['processes']} process{'es' if answer['processes'] > 1 else ''}, {answer['backend']}"
    yield judge(f"{_WHAT}, {who}", Difference(**answer["difference"]), _BOUND)
    if answer["trace"] is not None:
        yield Finding("record of collectives", {"answer": f"{len(answer['trace']):,} characters"})
    for speed in answer["speeds"]:
        cells = {
            "avg ms": f"{speed['seconds'] * 1e3:.2f}",
            "bus GB/s": f"{speed['bus_bytes_per_s'] / 1e9:.2f}",
        }
        yield Finding(f"{_WHAT} of {speed['bytes'] >> 20} MiB, {who}", cells)
