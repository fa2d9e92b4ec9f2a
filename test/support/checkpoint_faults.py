"""Break checkpoints and the saving of them: flipped bits, and a death before any chosen call to the system."""

import contextlib
import io
import os
import signal

import torch

from training.checkpoint.write import HashedFile


def small_payload(epoch, step=0, size=200):
    """A payload in upstream's layout with a few small tensors that tell its epoch and step."""
    weights = {name: torch.full((size,), epoch + step / 1000) for name in ("visual.w", "text.w")}
    moments = {number: {"step": torch.tensor(float(step)), "exp_avg": torch.ones(size)} for number in (0, 1)}
    return {
        "epoch": epoch,
        "global_step": step,
        "samples_seen": 8 * step,
        "name": "run",
        "state_dict": weights,
        "optimizer": {"state": moments, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    }


def flip_bit(path, place):
    """Flip one bit of a file; ``place`` counts bits."""
    with path.open("r+b") as file:
        file.seek(place // 8)
        byte = file.read(1)[0]
        file.seek(place // 8)
        file.write(bytes([byte ^ 1 << place % 8]))


class Countdown:
    """Kills this process when it is called for the so many-th time, where a call counts."""

    def __init__(self, left, counts=lambda: True):
        self.left, self.counts = left, counts

    def __call__(self, torn=None):
        if not self.counts():
            return
        self.left -= 1
        if self.left == 0:
            if torn is not None:
                torn()
            os.kill(os.getpid(), signal.SIGKILL)


def die_before_call(number, work):
    """Run ``work`` in a forked child that is killed before its call to the system of that number.

    A write that is to be the last leaves half of its bytes behind.

    Returns:
        Whether the child was killed; False when it made fewer calls and ended well.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            trap_calls(Countdown(number))
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def trap_calls(count):
    """Have ``count`` called before each call of this process that opens, writes, syncs, renames or deletes a file."""

    def counted(call):
        def wrapper(*args, **options):
            count()
            return call(*args, **options)

        return wrapper

    def torn_write(self, data):
        def half():
            self._file.write(bytes(data)[: len(data) // 2])
            self._file.flush()

        count(half)
        return write(self, data)

    write = HashedFile.write
    HashedFile.write = torn_write
    for module, names in ((os, ("replace", "rename", "fsync", "unlink", "open", "close")), (io, ("open",))):
        for name in names:
            setattr(module, name, counted(getattr(module, name)))
