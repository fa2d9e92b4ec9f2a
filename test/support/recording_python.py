"""A stand-in interpreter for the wrappers' ``PYTHON``: it records how the trainer would be started.

Everything but the trainer's own command line is handed to the real interpreter, so the wrappers' helpers really run.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
# The variables that tell a process its place.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHER = """#!/usr/bin/env bash
if [[ "$1 $2" == "-u -m" ]]; then
    exec {python} {script} "$@"
fi
exec {python} "$@"
"""


@dataclass
class Wrapper:
    """One wrapper script with everything it needs to be started."""

    script: Path
    python: Path
    record: Path
    data: Path
    output: Path
    required: tuple[str, ...]

    def command(self, *words: str, required: bool = True) -> list[str]:
        """Give the command line; the two required parameters are added unless told otherwise."""
        given = self.required if required else ()
        return ["bash", str(self.script), *given, f"--output_dir={self.output}", "--device=cpu", *words]

    def environment(self, **extra: str) -> dict[str, str]:
        """Give the environment: the stand-in interpreter, and what it shall do."""
        return {**os.environ, "PYTHON": str(self.python), "STAND_IN_RECORD": str(self.record), **extra}

    def run(self, *words: str, required: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run the wrapper to its end."""
        command = self.command(*words, required=required)
        return subprocess.run(
            command, env=self.environment(**extra), capture_output=True, text=True, timeout=60, cwd=self.data.parent
        )

    def recorded(self, rank: int | None = None) -> dict[str, object]:
        """Give what the trainer's command line and environment would have been, of one process among several."""
        record = self.record if rank is None else Path(f"{self.record}.{rank}")
        loaded: dict[str, object] = json.loads(record.read_text(encoding="utf-8"))
        return loaded

    def trainer_flags(self) -> list[str]:
        """Give the words behind ``-m training.main``."""
        words = self.recorded()["words"]
        assert isinstance(words, list)
        return words[words.index("training.main") + 1 :]


def make_wrapper(script: str, folder: Path) -> Wrapper:
    """Prepare a wrapper for a test: data folder with two (empty) tables, stand-in interpreter, output folder."""
    data = folder / "flickr 30k"
    data.mkdir(parents=True)
    for name in ("flickr30k_train.csv", "flickr30k_test.csv"):
        (data / name).write_text("img_key,caption_key\n", encoding="utf-8")
    python = folder / "recording python"
    python.write_text(_LAUNCHER.format(python=repr(sys.executable), script=repr(__file__)), encoding="utf-8")
    python.chmod(0o755)
    required: tuple[str, ...] = (f"--data_path={data}", "--pretrain_model=none")
    if "pretrain" in script:
        required = (f"--train_data={data}/{{00000..00499}}.tar", "--train_num_samples=5000000")
    return Wrapper(REPO_ROOT / "test" / script, python, folder / "record.json", data, folder / "out put", required)


def stand_in_trainer(words: list[str]) -> int:
    """Behave as the trainer would: record, print, leave a run folder, end with the status asked for."""
    kept = ("OPEN_CLIP_STATUS_FILE", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONSAFEPATH", "INF_NAN_MODE_ENABLE")
    kept += ("CPU_AFFINITY_CONF", *PLACE)
    record = {"words": words, "cwd": os.getcwd(), "env": {name: os.environ.get(name) for name in kept}}
    record["cores"] = sorted(os.sched_getaffinity(0))
    rank = os.environ.get("RANK")
    Path(os.environ["STAND_IN_RECORD"] + (f".{rank}" if rank else "")).write_text(json.dumps(record), encoding="utf-8")
    print("2026-01-01,00:00:00 | INFO | Train Epoch: 0", flush=True)
    print("a warning\rstep 1\rstep 2", file=sys.stderr, flush=True)
    if log_path := os.environ.get("OPEN_CLIP_LOG_FILE"):
        with open(log_path, "a", encoding="utf-8") as log:
            log.write(f"terminals {sys.stdout.isatty()} {sys.stderr.isatty()}\n")
    if os.environ.get("STAND_IN_FAILS_EARLY"):
        return int(os.environ["STAND_IN_FAILS_EARLY"])
    run_dir = Path(words[words.index("--logs-dir") + 1]) / os.environ.get("STAND_IN_RUN", "run-1")
    note = {"run": str(run_dir), "trains": not os.environ.get("STAND_IN_IS_DONE")}
    with contextlib.suppress(FileExistsError), open(os.environ["OPEN_CLIP_RUN_FILE"], "x", encoding="utf-8") as file:
        file.write(json.dumps(note))
    if os.environ.get("STAND_IN_SLEEP") and f"STAND_IN_STATUS_{rank}" not in os.environ:
        return _wait_for_signal()
    status = int(os.environ.get(f"STAND_IN_STATUS_{rank}", os.environ.get("STAND_IN_STATUS", "0")))
    if status < 0:
        os.kill(os.getpid(), -status)
    if status and "torch.distributed.run" in words:
        Path(os.environ["OPEN_CLIP_STATUS_FILE"]).write_text(f"{status}\n", encoding="utf-8")
        return 1
    if status == 0 and rank in (None, "0") and note["trains"]:
        write_run(run_dir, batch=128, ranks=1)
    return status


def write_run(run_dir: Path, batch: int, ranks: int, metrics: dict[str, float] | None = None) -> None:
    """Leave a finished run of 150 steps: 50 of 1 s, then 100 of 0.3 s."""
    run_dir.mkdir(parents=True, exist_ok=True)
    times = [1.0] * 50 + [0.3] * 100
    records = [
        {"kind": "train", "step": step + 1, "step_time_s": time_s, "loss": 2.0 - step / 100, "loss_avg": 2.0}
        for step, time_s in enumerate(times)
    ]
    lines = [{"kind": "run", "world_size": ranks, "global_batch": batch}, *records]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recalls = {"image_to_text_R@1": 0.25, "image_to_text_R@5": 0.777, "text_to_image_R@5": 0.5}
    summary = {
        "status": "finished",
        "world_size": ranks,
        "global_batch": batch,
        "fps": batch / 0.3,
        "fps_all_steps": batch * len(times) / sum(times),
        "train_time_s": sum(times),
        "e2e_time_s": 99.0,
        "loss": 1.25,
        "metrics": recalls if metrics is None else metrics,
    }
    (run_dir / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def _wait_for_signal() -> int:
    import signal

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda got, _frame: received.append(got))
    Path(os.environ["STAND_IN_SLEEP"] + os.environ.get("RANK", "")).touch()
    deadline = time.monotonic() + 30
    while not received and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # the checkpoint; a second signal would be counted
    if os.environ.get("STAND_IN_SIGNALS"):
        Path(os.environ["STAND_IN_SIGNALS"]).write_text(str(received), encoding="utf-8")
    print(f"signals {received}", flush=True)
    return 75


if __name__ == "__main__":
    sys.exit(stand_in_trainer(sys.argv[1:]))
