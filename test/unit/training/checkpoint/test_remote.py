"""The remote copy of a run folder: whole files go there, good checkpoints come back."""

import time

import pytest

from checkpoint_faults import flip_bit, small_payload
from open_clip.errors import CheckpointError, ConfigError, MissingDependency
from training.checkpoint import Keeper, RemoteFolder, RemoteSync, read_newest
from training.checkpoint.remote import fetch_file, open_address

fsspec = pytest.importorskip("fsspec", reason="fsspec (extra remote) is not installed")


@pytest.fixture(params=["file", "memory"])
def destination(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/there"
    return f"memory://{tmp_path.name}/there"


@pytest.fixture
def run(tmp_path):
    root = tmp_path / "logs" / "run"
    keeper = Keeper(make(root / "checkpoints"))
    for epoch in (1, 2):
        keeper.save_epoch(small_payload(epoch))
    (root / "out.log").write_text("first line\n")
    return root


def make(folder):
    folder.mkdir(parents=True)
    return folder


def remote_of(destination):
    return RemoteFolder(destination, "run", "fsspec")


def test_changed_whole_files_are_sent_and_nothing_else(run, destination):
    (run / "checkpoints" / ".tmp-epoch_3.pt-7").write_bytes(b"half")
    (run / "checkpoints" / "epoch_latest.pt").write_bytes(b"written in place by others")
    (run / "run.lock").write_text("of this start")
    (run.parent / "key").write_text("private")
    (run / "planted.txt").symlink_to(run.parent / "key")
    (run / "planted").symlink_to(run.parent)
    remote = remote_of(destination)
    assert remote.send_changed(run) == 4
    files = ["checkpoints/epoch_1.pt", "checkpoints/epoch_2.pt", "checkpoints/manifest.json", "out.log"]
    assert sorted(remote.list_files()) == files
    assert remote.send_changed(run) == 0
    (run / "out.log").write_text("first line\nsecond line\n")
    assert remote.send_changed(run) == 1
    system, path = open_address(f"{destination}/run/out.log")
    assert system.cat_file(path) == b"first line\nsecond line\n"


def test_a_later_start_sends_no_checkpoint_again_but_one_of_another_content(run, destination):
    remote_of(destination).send_changed(run)
    assert remote_of(destination).send_changed(run) == 2
    Keeper(run / "checkpoints").save_epoch(small_payload(2, step=77))
    again = remote_of(destination)
    assert again.send_changed(run) == 3
    system, path = open_address(f"{destination}/run/checkpoints/epoch_2.pt")
    assert system.cat_file(path) == (run / "checkpoints" / "epoch_2.pt").read_bytes()


def test_what_is_deleted_here_stays_there(run, destination):
    remote = remote_of(destination)
    remote.send_changed(run)
    (run / "checkpoints" / "epoch_1.pt").unlink()
    remote.send_changed(run)
    assert remote.list_checkpoints() == ["epoch_1.pt", "epoch_2.pt"]


def read(remote, folder, messages):
    elsewhere = remote.list_checkpoints()
    return read_newest(
        folder, messages.append, elsewhere=elsewhere, fetch=lambda name: remote.fetch_checkpoint(name, folder)
    )


def test_latest_takes_what_is_newer_there_and_leaves_what_is_newer_here(run, destination, tmp_path):
    remote = remote_of(destination)
    remote.send_changed(run)
    elsewhere = make(tmp_path / "elsewhere")
    path, payload = read(remote, elsewhere, [])
    assert (path, payload["epoch"]) == (elsewhere / "epoch_2.pt", 2)
    assert sorted(item.name for item in elsewhere.iterdir()) == ["epoch_2.pt", "manifest.json"]
    Keeper(elsewhere).save_step(small_payload(2, 30))
    assert read(remote, elsewhere, [])[0].name == "epoch_2_step_30.pt"


def test_a_damaged_file_here_is_replaced_by_its_remote_copy(run, destination):
    remote = remote_of(destination)
    remote.send_changed(run)
    flip_bit(run / "checkpoints" / "epoch_2.pt", 9000)
    messages = []
    path, payload = read(remote, run / "checkpoints", messages)
    assert (path.name, payload["epoch"]) == ("epoch_2.pt", 2)
    assert "Trying its remote copy" in messages[0]


def test_a_damaged_remote_copy_is_passed_over(run, destination, tmp_path, caplog):
    remote = remote_of(destination)
    remote.send_changed(run)
    system, path = open_address(f"{destination}/run/checkpoints/epoch_2.pt")
    content = bytearray(system.cat_file(path))
    content[2000] ^= 1
    system.pipe_file(path, bytes(content))
    assert read(remote, make(tmp_path / "elsewhere"), [])[1]["epoch"] == 1
    assert "is not what was written" in caplog.text


def test_records_come_back_without_replacing_what_is_here(run, destination, tmp_path):
    (run / "metrics.jsonl").write_text("{}\n")
    remote = remote_of(destination)
    remote.send_changed(run)
    root = make(tmp_path / "elsewhere")
    (root / "out.log").write_text("mine\n")
    remote.fetch_records(root)
    assert (root / "out.log").read_text() == "mine\n"
    assert (root / "metrics.jsonl").read_text() == "{}\n"
    assert not (root / "checkpoints").exists()


def test_a_file_there_cannot_lead_out_of_the_run_folder(tmp_path):
    remote = remote_of(f"memory://{tmp_path.name}/there")
    system, path = open_address(f"memory://{tmp_path.name}/there/run")
    system.pipe_file(f"{path}/../../escaped.txt", b"x")
    system.pipe_file(f"{path}/fine.txt", b"x")
    remote.fetch_records(make(tmp_path / "a" / "b"))
    assert [item.name for item in tmp_path.rglob("*.txt")] == ["fine.txt"]


def test_a_first_copy_that_fails_ends_the_run_and_a_later_one_is_made_up_for(run, tmp_path, caplog):
    (tmp_path / "there").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="--remote-sync: the first copy failed"):
        RemoteSync(remote_of(f"file://{tmp_path}/there"), run, 1).__enter__()
    (tmp_path / "there").unlink()
    with RemoteSync(remote_of(f"file://{tmp_path}/there"), run, 0.02):
        (tmp_path / "there").rename(tmp_path / "gone")
        (tmp_path / "there").write_text("again")
        (run / "out.log").write_text("more\n")
        deadline = time.monotonic() + 10
        while "The next copy makes up for it" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        (tmp_path / "there").unlink()
        (tmp_path / "gone").rename(tmp_path / "there")
    assert "The next copy makes up for it" in caplog.text
    assert (tmp_path / "there" / "run" / "out.log").read_text() == "more\n"


def test_the_protocol_and_the_address_must_agree():
    with pytest.raises(ConfigError, match="--remote-sync-protocol fsspec"):
        RemoteFolder("memory://x", "run", "s3")
    with pytest.raises(ConfigError, match="nosuch://x"):
        RemoteFolder("nosuch://x", "run", "fsspec")


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    def absent(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(MissingDependency, match="Install s3fs"):
        RemoteFolder("s3://bucket/runs", "run", "s3")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[remote\]'"):
        RemoteFolder("s3://bucket/runs", "run", "s3")


def test_one_file_is_fetched_whole_or_not_at_all(run, destination, tmp_path):
    remote_of(destination).send_changed(run)
    fetch_file(f"{destination}/run/checkpoints/epoch_1.pt", tmp_path / "fetched.pt")
    assert (tmp_path / "fetched.pt").read_bytes() == (run / "checkpoints" / "epoch_1.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"absent\.pt: cannot be fetched"):
        fetch_file(f"{destination}/run/absent.pt", tmp_path / "absent.pt")
    assert not (tmp_path / "absent.pt").exists()
