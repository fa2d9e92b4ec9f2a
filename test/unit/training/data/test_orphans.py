"""Workers of a process that died: none is left, whatever it was blocked in."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import trainer_environment

_PARENT = """
import os, signal, sys, threading, time
import torch
from torch.utils.data import DataLoader, Dataset
from training.data.orphans import EndsWithParent

STATE, CONTEXT, THREAD = sys.argv[1:]
SIZE = 1000 if STATE == "reading" else 4_000_000


def ignore(number):
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(one, signal.SIG_IGN)


class Rows(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        os.write(1, b"%d\\n" % os.getpid())
        if index >= 4 and STATE == "sleeping":
            time.sleep(600)
        return b"x" * SIZE  # more than a pipe holds: what is not read blocks the thread that feeds it


def read():
    loader = DataLoader(Rows(), num_workers=2, collate_fn=list, prefetch_factor=4, multiprocessing_context=CONTEXT,
                        worker_init_fn=EndsWithParent(ignore))
    batches = iter(loader)
    next(batches)
    os.write(1, b"read\\n")
    time.sleep(600)


if __name__ == "__main__":
    torch.multiprocessing.set_start_method(CONTEXT)
    if THREAD == "thread":
        threading.Thread(target=read, daemon=True).start()
        time.sleep(600)
    read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "state,context,thread",
    [
        ("feeding", "fork", "main"),
        ("sleeping", "fork", "main"),
        ("stopped", "fork", "main"),
        pytest.param("feeding", "fork", "thread", marks=pytest.mark.slow),
        pytest.param("feeding", "spawn", "main", marks=pytest.mark.slow),
        pytest.param("feeding", "forkserver", "main", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_its_process(state, context, thread, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    process = subprocess.Popen(
        [sys.executable, str(script), state, context, thread],
        env=trainer_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    workers = set()
    for line in process.stdout:
        if line == "read\n":
            break
        workers.add(int(line))
    time.sleep(1.0)  # let queues fill
    assert workers
    assert all(is_alive(pid) for pid in workers)
    if state == "stopped":
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 15
    while (left := [pid for pid in workers if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.slow
def test_a_worker_lives_on_when_the_thread_that_started_it_ends(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        _PARENT.replace('os.write(1, b"read\\n")\n    time.sleep(600)', "return batches").replace(
            "    read()\n",
            """    held = []
    starter = threading.Thread(target=lambda: held.append(read()))
    starter.start()
    starter.join()
    time.sleep(2.5)
    print(sum(1 for _ in held[0]), flush=True)
""",
        )
    )
    words = [sys.executable, str(script), "reading", "fork", "main"]
    done = subprocess.run(words, env=trainer_environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "999"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
