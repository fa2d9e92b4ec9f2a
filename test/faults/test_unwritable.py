"""A run folder on a read-only disk, another user's, or an address of no use ends a start with a status and a reason."""

import http.server
import os
import shlex
import shutil
import socket
import subprocess
import threading

import pytest

import open_clip
from killed_trainer import NANO
from open_clip.errors import CheckpointError
from pairs import make_pairs, micro_flags
from runs import trainer_command, trainer_environment
from tiny_models import write_config
from training.checkpoint import list_checkpoints, read_verified
from training.main import main
from training.params import CheckpointParams
from training.run_folder import find_folder, hold_folder

pytestmark = pytest.mark.faults
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root may")
NOBODY = 65534


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch: (its flags, its folder)."""
    folder = tmp_path_factory.mktemp("runs")
    open_clip.add_model_config(write_config(folder, "ViT-nano", NANO))
    flags = micro_flags(make_pairs(folder, 16, 1), None, model="ViT-nano", logs_dir=folder, name="run", epochs=1)
    assert main(flags) == 0
    return flags, folder / "run"


def as_nobody(work):
    """Run work as a user without rights in a child; gives the name of the error it met and its message."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setuid(NOBODY)
        try:
            answer = repr(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as file:
        return file.read()


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o744, 0o755])
def test_another_users_folder_is_refused_in_words(tmp_path_factory, mode):
    # Outside pytest's own folders, which nobody may enter.
    top = tmp_path_factory.mktemp("others")
    for parent in (top, *top.parents[:2]):
        parent.chmod(0o755)
    folder = top / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "epoch_1.pt").write_bytes(b"x")
    (folder / "epoch_1.pt").chmod(0o600)
    params = CheckpointParams(logs_dir=str(top), name="run", resume="latest")
    held = as_nobody(lambda: hold_folder(params, find_folder(params, "run")).__enter__())
    assert held.startswith("ConfigError: --logs-dir: cannot")
    assert as_nobody(lambda: read_verified(folder / "epoch_1.pt")).startswith("CheckpointError: ")
    folder.parent.chmod(mode)
    folder.chmod(mode)
    told = as_nobody(lambda: read_verified(folder / "epoch_1.pt"))
    assert told.startswith("CheckpointError: ")
    assert "Permission denied" in told
    if mode != 0o755:
        assert as_nobody(lambda: list_checkpoints(folder)).startswith("CheckpointError: ")


@needs_root
@pytest.mark.parametrize("place", ["run", "epoch_1.pt"])
def test_a_resume_on_a_read_only_disk_is_refused_in_words(run, tmp_path, place):
    flags, folder = run
    shutil.copytree(folder, tmp_path / "run")
    words = [*flags, "--model", "ViT-micro-8-32", "--logs-dir", str(tmp_path), "--epochs", "2", "--resume"]
    words += ["latest"] if place == "run" else [str(tmp_path / "run" / "checkpoints" / place), "--name", "again"]
    disk = shlex.quote(str(tmp_path))
    mount = f"mount --bind {disk} {disk} && mount -o remount,ro,bind {disk} || exit 77"
    command = f"{mount}; {shlex.join(trainer_command(words))}"
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], env=trainer_environment(), capture_output=True, text=True, timeout=240
    )
    output = ended.stdout + ended.stderr
    if ended.returncode == 77 or "unshare" in output:
        pytest.skip("this machine mounts nothing")
    assert ended.returncode == 2, output
    assert "--logs-dir: cannot" in output
    assert "ead-only" in output
    assert "Traceback" not in output


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>please log in</html>")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def status_of(run, capfd, *more):
    status = main([*run[0], "--epochs", "2", *more])
    captured = capfd.readouterr()
    log = captured.out + captured.err
    assert "Traceback" not in log
    return status, log


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("flag", ["--resume", "--remote-sync"])
@pytest.mark.parametrize("scheme", ["ftp", "http", "zzz", "zip", "reference", "sftp", "s3", "\x1b[31mx"])
def test_an_address_that_cannot_be_reached_is_told(run, tmp_path, capfd, flag, scheme):
    pytest.importorskip("fsspec", reason="fsspec (extra remote) is not installed")
    address = f"{scheme}://127.0.0.1:{closed_port()}/epoch_1.pt"
    protocol = ["--remote-sync-protocol", "fsspec"] if flag == "--remote-sync" else []
    status, log = status_of(run, capfd, "--logs-dir", str(tmp_path), flag, address, *protocol)
    assert status in (2, 4), log
    assert "127.0.0.1" in log
    assert "\x1b[31mx" not in log.split("Params:")[0] + log[-500:]


def test_an_address_that_answers_with_a_page_is_called_by_its_name(run, tmp_path, capfd):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/epoch_1.pt"
    status, log = status_of(run, capfd, "--logs-dir", str(tmp_path), "--resume", address)
    server.shutdown()
    assert status == 4, log
    assert f"{address}: is a web page" in log


def test_a_page_behind_any_address_is_called_by_that_address(run, tmp_path, capfd):
    pytest.importorskip("fsspec", reason="fsspec (extra remote) is not installed")
    (tmp_path / "epoch_1.pt").write_text("<html>please log in</html>")
    address = f"file://{tmp_path}/epoch_1.pt"
    status, log = status_of(run, capfd, "--logs-dir", str(tmp_path), "--resume", address)
    assert status == 4, log
    assert f"{address}: is a web page" in log


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "link to nowhere", "long", "empty name"])
def test_a_resume_of_what_is_no_file_is_told(run, tmp_path, capfd, kind):
    path = tmp_path / "epoch_1.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link to nowhere":
        path.symlink_to(tmp_path / "gone")
    wanted = {"long": "x" * 5000, "empty name": ""}.get(kind, str(path))
    status, log = status_of(run, capfd, "--logs-dir", str(tmp_path), "--resume", wanted)
    assert status == (2 if kind in ("long", "empty name") else 4), log


def test_a_file_that_may_not_be_read_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_verified(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match="null"):
        read_verified(tmp_path / "a\0b.pt")
