"""Runs the real trainer in forked children of a process that imported torch once, so that a start costs no import.

Started as ``python killed_trainer.py``: reads one job a line (JSON, see `kill_trials.Job`) and answers each with the
statuses of its ranks, a negative one for a signal. What a child does to itself (die, fill a disk, spoil a batch) is
told in the job; every child writes what each step trained on, as one line of JSON, before anything of it is saved.
"""

import functools
import hashlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

import open_clip
from checkpoint_faults import Countdown, trap_calls
from standardised_trainer import standardise_training
from training import session  # noqa: F401  (imported before the fork)
from training.checkpoint import Keeper
from training.loop import Stepper
from training.main import _leave, main
from training.saving import Saver
from training.tasks import ClipTask
from warm_python import serve as answer_jobs
from warm_python import signal_all

# Of the vocabulary's size most of a checkpoint comes; at this width it is 5 MB.
NANO = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def serve():
    """Answer jobs until the input ends."""
    open_clip.add_model_config(_write_config())
    # What costs time in a start and has no part in what is tried here.
    torch.use_deterministic_algorithms(False)
    open_clip.get_tokenizer = functools.cache(open_clip.get_tokenizer)
    open_clip.get_tokenizer("ViT-nano", context_length=None, cache_dir=None)(["an image"])
    answer_jobs(_be_trainer, _look)


def _write_config():
    path = Path(sys.argv[1]) / "ViT-nano.json"
    path.write_text(json.dumps(NANO))
    return path


def _look(job, children, statuses):
    """Kill where and when the job says; a rank that dies of a signal takes the others along, as under torchrun."""
    if any(status is not None and status < 0 for status in statuses):
        signal_all(children, signal.SIGKILL)
    kill = job.get("kill") or {}
    if kill.get("at") != "time":
        return
    if "seen" not in job and _count_lines(job["steps"]) >= kill["line"]:
        job["seen"] = time.monotonic()
    if "seen" in job and time.monotonic() >= job["seen"] + kill["seconds"]:
        # One signal only: a second one of those that ask for a stop would end the run at once.
        del job["kill"]
        signal_all(children, kill.get("signal", signal.SIGKILL))


def _count_lines(path):
    return Path(path).read_bytes().count(b"\n") if os.path.exists(path) else 0


def _be_trainer(job, rank):
    kill = job.get("kill") or {}
    _keep_steps(job, rank, kill if kill.get("rank", 0) == rank else {})
    if kill.get("at") == "call":
        _die_in_save(kill["number"])
    if "spoil" in job:
        _spoil(**job["spoil"])
    if job.get("is_standardised"):
        open_clip.create_model_and_transforms = standardise_training(open_clip.create_model_and_transforms)
    _leave(main(job["flags"]))


def _keep_steps(job, rank, kill):
    """Write what each step did; die before or after one; fill and empty a disk."""
    steps = os.open(f"{job['steps']}{f'-{rank}' if rank else ''}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    step, step_done, last = Stepper.step, Saver.step_done, {}

    def kept_step(self, batches, lr):
        if kill.get("at") == "before_step" and last.get("step", -1) + 1 >= kill["step"]:
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(self, batches, lr)
        last.update(keys=[key for batch in batches for key in name_rows(batch)], loss=float(result.total).hex())
        return result

    def kept_step_done(self, number):
        last.update(step=number, random=random_digest())
        if job.get("measure_every") and number % job["measure_every"] == 0:
            last["measured"] = measure()
        os.write(steps, json.dumps(last).encode() + b"\n")
        last.pop("measured", None)
        if kill.get("at") == "after_step" and number >= kill["step"]:
            os.kill(os.getpid(), signal.SIGKILL)
        _fill(job.get("fill", {}), number)
        return step_done(self, number)

    Stepper.step, Saver.step_done = kept_step, kept_step_done


def name_rows(batch):
    """Name the rows of a batch; those of a stream, which have no keys, by their words."""
    if batch.keys is not None:
        return batch.keys
    return [hashlib.sha1(words.numpy().tobytes()).hexdigest()[:12] for words in batch.texts.ids.cpu()]


def random_digest():
    """Name the state of the generators of Python, NumPy and torch."""
    digest = hashlib.sha1(repr(random.getstate()).encode())
    digest.update(np.random.get_state()[1].tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


def measure():
    """Say what a process holds: bytes of memory, open files, child processes, files in shared memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "rss": pages * resource.getpagesize(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": len(children),
        "shared": len([name for name in os.listdir("/dev/shm") if name.startswith("torch_")]),
    }


def _fill(fill, number):
    if number == fill.get("from"):
        with open(fill["path"], "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
    if number == fill.get("until") and os.path.exists(fill["path"]):
        os.unlink(fill["path"])


def _die_in_save(number):
    """Die before the so many-th call to the system that a save makes, in whatever thread it runs."""
    here = threading.local()

    def marked(save):
        def wrapper(*args, **options):
            here.saving = True
            try:
                return save(*args, **options)
            finally:
                here.saving = False

        return wrapper

    Keeper.save_step, Keeper.save_epoch = marked(Keeper.save_step), marked(Keeper.save_epoch)
    trap_calls(Countdown(number, lambda: getattr(here, "saving", False)))


def _spoil(keys, factor):
    """Multiply the loss of the batch of just these rows, on the rank that has it."""
    prepare, losses, spoiled = ClipTask.prepare, ClipTask.joint_losses, []

    def kept_prepare(self, batch):
        spoiled[:] = [True] * (list(batch.keys) == keys)
        return prepare(self, batch)

    def spoiled_losses(self, outputs):
        found = losses(self, outputs)
        return {name: value * factor for name, value in found.items()} if spoiled else found

    ClipTask.prepare, ClipTask.joint_losses = kept_prepare, spoiled_losses


if __name__ == "__main__":
    serve()
