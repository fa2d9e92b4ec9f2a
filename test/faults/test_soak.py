"""A long run holds no more memory, files, processes or shared memory at its end than early on."""

import numpy as np
import pytest

from kill_trials import Trainers, read_steps
from pairs import make_pairs, micro_flags
from runs import read_lines

pytestmark = [pytest.mark.faults, pytest.mark.slow]
EPOCHS = 20


def test_two_thousand_steps_leak_nothing(tmp_path, capsys):
    flags = micro_flags(
        make_pairs(tmp_path, 202, 2),
        None,
        model="ViT-nano",
        batch_size=4,
        workers=2,
        epochs=EPOCHS,
        log_every_n_steps=50,
        save_every_n_steps=50,
        keep_checkpoints=2,
        ema_decay=0.9,
        logs_dir=tmp_path / "logs",
        name="run",
    )
    with Trainers(tmp_path / "trainers") as trainers:
        statuses = trainers.run(flags, tmp_path / "steps", measure_every=20, limit_s=550)
    assert statuses == [0], (tmp_path / "steps.out").read_text()[-3000:]
    steps = read_steps(tmp_path / "steps")
    assert len(steps) == 101 * EPOCHS
    # The first steps fill pools and caches.
    found = {step: line["measured"] for step, line in steps.items() if "measured" in line and step > 400}
    slope = np.polyfit([*found], [one["rss"] for one in found.values()], 1)[0] * 1000 / 1e6
    with capsys.disabled():
        print(f"\n{len(steps)} steps: {slope:+.2f} MB a 1,000 steps; first {found[420]}, last {found[2020]}")
    assert slope < 1.0
    early, late = ([one for step, one in found.items() if within(step)] for within in ((820).__ge__, (1620).__lt__))
    # A batch on its way from a worker holds files open, a save on its way to the disk has threads.
    for name in ("files", "threads", "children", "shared"):
        assert min(one[name] for one in late) <= min(one[name] for one in early), name
    assert {line.get("event") for line in read_lines(tmp_path / "logs/run/metrics.jsonl")} == {None, "checkpoint"}
