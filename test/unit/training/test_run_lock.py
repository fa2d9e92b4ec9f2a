"""A run folder has one owner at a time: who comes second is told who it is, and no dead process keeps it."""

import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from open_clip.errors import ConfigError
from runs import trainer_environment
from training import run_lock
from training.run_lock import LOCK_NAME, Owner, locked

# Takes the folder, forks a child that stays, and says so.
HOLDER = """
import os, sys, time
from pathlib import Path
from training.run_lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork() if "fork" in sys.argv else -1
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold(tmp_path):
    """Start processes that hold the folder."""
    started = []

    def start(*words):
        command = [sys.executable, "-c", HOLDER, str(tmp_path), *words]
        process = subprocess.Popen(command, env=trainer_environment(), stdout=subprocess.PIPE, text=True)
        started.append(process.pid)
        child = int(process.stdout.readline())
        if child > 0:
            started.append(child)
        return process

    yield start
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def leave_owner(folder, **changes):
    owner = dataclasses.replace(Owner.of_this_process(), **changes)
    (folder / LOCK_NAME).write_text(json.dumps(dataclasses.asdict(owner)))


def test_a_held_folder_is_refused_with_its_owner_named(tmp_path, hold):
    process = hold()
    with pytest.raises(ConfigError, match=rf"in use by process {process.pid} on \S+ \(since 20"), locked(tmp_path):
        pass
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == process.pid


def test_a_killed_owner_leaves_the_folder_free_at_once_though_a_forked_worker_lives(tmp_path, hold):
    process = hold("fork")
    process.kill()
    process.wait()
    with locked(tmp_path, beat_s=600):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_this_process_cannot_take_a_folder_twice_and_can_again_later(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ConfigError, match="in use"), locked(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).exists()
    with locked(tmp_path):
        pass


def test_an_owner_elsewhere_is_believed_dead_only_when_its_heart_stands_still(tmp_path, caplog):
    leave_owner(tmp_path, host="elsewhere", boot="other")
    with locked(tmp_path, beat_s=0.01):
        assert "names process" in caplog.text
    leave_owner(tmp_path, host="elsewhere", boot="other")
    beating = "import os,sys,time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.05)"
    process = subprocess.Popen([sys.executable, "-c", beating, str(tmp_path / LOCK_NAME)])
    try:
        with pytest.raises(ConfigError, match="elsewhere"), locked(tmp_path, beat_s=1.0):
            pass
    finally:
        process.kill()
        process.wait()


def test_the_owner_gives_signs_of_life(tmp_path):
    with locked(tmp_path, beat_s=0.01):
        first = (tmp_path / LOCK_NAME).stat().st_mtime_ns
        deadline = time.monotonic() + 60
        while (tmp_path / LOCK_NAME).stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_where_the_system_has_no_locks_the_owner_is_looked_for(tmp_path, hold, monkeypatch):
    def refuse(descriptor, command):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(run_lock, "_SETTLING_S", 0.01)
    process = hold()
    with pytest.raises(ConfigError, match=f"process {process.pid} "), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass
    leave_owner(tmp_path, born="1")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"pid": -1}', b"[" * 4000, b'{"pid": 1e999}'])
def test_a_mutated_lock_file_keeps_nobody_out(tmp_path, content):
    (tmp_path / LOCK_NAME).write_bytes(content)
    with locked(tmp_path, beat_s=600):
        pass


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_nothing_but_a_plain_file_is_a_lock(tmp_path, kind):
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    victim.write_text("precious")
    if kind == "pipe":
        os.mkfifo(run / LOCK_NAME)
    elif kind == "folder":
        (run / LOCK_NAME).mkdir()
    else:
        (run / LOCK_NAME).symlink_to(victim if kind == "link" else tmp_path / "absent")
    with pytest.raises(OSError, match="."), locked(run):
        pass
    assert victim.read_text() == "precious"
    assert not (tmp_path / "absent").exists()
