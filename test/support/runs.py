"""Start the real trainer, in this process or in others, and read what it left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from npu_session import skip_without_hccl
from warm_python import free_port, run_warm

ROOT = Path(__file__).resolve().parents[2]


def trainer_environment(**extra):
    """Environment of a child trainer: this tree's sources, one thread, no waiting threads that burn the processor."""
    environ = dict(os.environ)
    environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
    paths = [extra.pop("PYTHONPATH", ""), str(ROOT / "src"), environ.get("PYTHONPATH", "")]
    environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environ.update(extra)
    return environ


def trainer_command(flags, processes=1, program=("-m", "training.main")):
    """Spell the command that starts the trainer, or a program like it, with these flags."""
    if processes == 1:
        return [sys.executable, *program, *flags]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(free_port())]
    return [sys.executable, *launcher, *program, *flags]


def start_trainer(flags, processes=1, program=("-m", "training.main"), **environ):
    """Start the trainer and return the running process; its output is one stream of text."""
    if processes > 1 and "NPUSIM_DEVICES" in environ:
        skip_without_hccl()
    return subprocess.Popen(
        trainer_command(flags, processes, program),
        env=trainer_environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def run_trainer(flags, processes=1, timeout_s=240, *, program=("-m", "training.main"), is_launched=False, **environ):
    """Run the trainer to its end.

    Args:
        flags: Words of its command line.
        processes: Ranks on this machine.
        timeout_s: When it is killed, and the test fails.
        program: What is started; a program like the trainer.
        is_launched: Whether a new Python starts, with torchrun for several ranks. Otherwise the ranks are forked from a
            process that has imported torch, and find their place in the environment.
        environ: Variables of the environment.

    Returns:
        (exit status, output); of several ranks the status of the first that did not end well, 1 under torchrun
    """
    if is_launched:
        return _run_launched(flags, processes, timeout_s, program, environ)
    if processes > 1 and "NPUSIM_DEVICES" in environ:
        skip_without_hccl()
    words = (*program, *flags)
    statuses, output = run_warm(words, trainer_environment(**environ), processes=processes, timeout_s=timeout_s)
    return next((status for status in statuses if status), 0), output


def _run_launched(flags, processes, timeout_s, program, environ):
    process = start_trainer(flags, processes, program, **environ)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"the trainer did not end in {timeout_s} s:\n{output}") from None
    return process.returncode, output


def read_gallery(run):
    """Read the retrieval examples of a run folder."""
    shown = json.loads((Path(run) / "evaluations.json").read_text(encoding="utf-8"))["evaluations"]["retrieval"]
    return next(part for part in shown["parts"] if part["kind"] == "gallery")


def read_lines(path):
    """Read a JSON-lines file; a torn last line is left out."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def train_losses(run_dir):
    """Give {step: loss} of a run's logged steps."""
    return {
        line["step"]: line["loss"] for line in read_lines(Path(run_dir) / "metrics.jsonl") if line["kind"] == "train"
    }


def wait_for_step(run_dir, step, process, timeout_s=120):
    """Wait until a run has logged a step; the run must not end before."""
    path = Path(run_dir) / "metrics.jsonl"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if path.exists() and any(number >= step for number in train_losses(run_dir)):
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached in {timeout_s} s")


def kill_group(process, number=signal.SIGKILL):
    """Send a signal and wait for the end; gives the output."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    return output


def load_payload(path):
    """Load a checkpoint as a stranger would."""
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_same_state(first, second):
    """Assert that two nested states are equal to the bit."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_state(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same_state(one, other)
    else:
        assert first == second
