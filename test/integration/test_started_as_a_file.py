"""Scripts of upstream's start the trainer by the path of its main file, not as a module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairs import make_pairs, micro_flags

SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("door", ["training", "open_clip_train"])
def test_the_main_file_runs_by_its_path(door, tmp_path):
    table = make_pairs(tmp_path, 8, 1, name="train.csv")
    words = micro_flags(table, None, logs_dir="none", epochs=1, batch_size=4)
    where = {"PYTHONPATH": str(SOURCES)} if door != "training" else {}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | where
    command = [sys.executable, str(SOURCES / door / "main.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Run finished" in done.stderr
