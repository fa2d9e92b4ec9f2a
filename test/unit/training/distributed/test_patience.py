"""A process that waits for others in calls of torch's answers signals, and does not outlive the launcher."""

import signal
import socket
import subprocess
import sys

import pytest

from runs import trainer_command, trainer_environment

_FLAGS = ["--dataset-type", "synthetic", "--train-num-samples", "8", "--model", "ViT-micro-8-32", "--device", "cpu"]
_LAUNCH = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@pytest.fixture
def silent_store():
    """Listen where the processes meet and never say a word: whoever connects is waiting from then on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(240)
        yield server


def start_second_rank(server, tmp_path, launcher=(), **environ):
    port = str(server.getsockname()[1])
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return subprocess.Popen(
        [*launcher, *trainer_command([*_FLAGS, "--logs-dir", str(tmp_path)])],
        env=trainer_environment(**place, LOCAL_WORLD_SIZE="2", **environ),
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_its_end(connection):
    """Wait until the process at the other end is gone, or a minute is over."""
    connection.settimeout(60)
    while connection.recv(1024):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_others_are_waited_for_is_one_line_and_status_75(number, silent_store, tmp_path):
    with start_second_rank(silent_store, tmp_path) as process:
        connection, _ = silent_store.accept()
        with connection:
            process.send_signal(number)
            try:
                wait_for_its_end(connection)
            finally:
                process.kill()
        said = process.stderr.read()
    assert process.returncode == 75
    assert f"{number.name}: stopped before the run began" in said
    assert not list(tmp_path.iterdir())


def test_a_process_whose_launcher_is_killed_before_all_are_there_ends(silent_store, tmp_path):
    launcher = [sys.executable, "-c", _LAUNCH]
    with start_second_rank(silent_store, tmp_path, launcher, TORCHELASTIC_RUN_ID="a") as process:
        connection, _ = silent_store.accept()
        with connection:
            process.kill()
            wait_for_its_end(connection)
        assert "torchrun is gone" in process.stderr.read()
