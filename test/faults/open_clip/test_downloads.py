"""Downloads from a server that cuts, lies, fails and is asked by many at once (fault R16)."""

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from file_server import serve_files
from open_clip.errors import CheckpointError
from open_clip.pretrained import download, download_pretrained_from_url

CONTENT = bytes(range(256)) * 4096
HASH = hashlib.sha256(CONTENT).hexdigest()
NAMED = f"/mlfoundations/weights-{HASH[:8]}.pt"
NAMELESS = "/weights.pt"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("name", [NAMED, NAMELESS])
def test_a_cut_download_goes_on_where_it_was_cut(name, tmp_path):
    with serve_files(files={name: CONTENT}, cut_after=[1000, 5000]) as server:
        path = download_pretrained_from_url(server.url + name, str(tmp_path))
        assert server.ranges == ["", "bytes=1000-", "bytes=6000-"]
    assert Path(path).read_bytes() == CONTENT
    assert left_in(tmp_path) == [Path(name).name]


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole_again(tmp_path):
    with serve_files(files={NAMED: CONTENT}, cut_after=[1000], knows_ranges=False) as server:
        path = download_pretrained_from_url(server.url + NAMED, str(tmp_path))
    assert Path(path).read_bytes() == CONTENT


def test_a_download_given_up_is_never_used_and_goes_on_next_time(tmp_path):
    with serve_files(files={NAMED: CONTENT}, cut_after=[1000] * 4) as server:
        with pytest.raises(CheckpointError, match="cut .* bytes before the end"):
            download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert not (tmp_path / Path(NAMED).name).exists()
        path = download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert server.ranges[-1] == "bytes=4000-"
    assert Path(path).read_bytes() == CONTENT


def test_a_damaged_beginning_is_noticed_and_fetched_anew(tmp_path):
    with serve_files(files={NAMED: CONTENT}, cut_after=[1000] * 4) as server:
        with pytest.raises(CheckpointError):
            download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        next(tmp_path.glob(".*.part")).write_bytes(b"x" * 4000)
        path = download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert server.ranges[-2:] == ["bytes=4000-", ""]
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>Sign in</p>", b""])
def test_a_page_or_nothing_is_not_kept_as_weights(content, tmp_path):
    with serve_files(files={NAMELESS: content}) as server, pytest.raises(CheckpointError, match="thrown away"):
        download_pretrained_from_url(server.url + NAMELESS, str(tmp_path))
    assert left_in(tmp_path) == []


def test_a_missing_file_is_said_at_once(tmp_path):
    with serve_files() as server:
        with pytest.raises(CheckpointError, match="answered 404"):
            download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert len(server.ranges) == 1


def test_a_server_that_is_busy_is_asked_again(tmp_path):
    with serve_files(files={NAMED: CONTENT}, statuses=[503, 500]) as server:
        assert download_pretrained_from_url(server.url + NAMED, str(tmp_path))


def test_a_slow_server_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}{NAMED}"
        with pytest.raises(CheckpointError, match="timed out"):
            download_pretrained_from_url(url, str(tmp_path))


def test_nobody_listening_is_said_with_what_to_do(tmp_path):
    with serve_files() as server:
        url = server.url
    with pytest.raises(CheckpointError, match="fetch the file elsewhere and give its path"):
        download_pretrained_from_url(url + NAMED, str(tmp_path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="choose another cache_dir"):
        download_pretrained_from_url("http://127.0.0.1:9/weights.pt", str(tmp_path / "file" / "cache"))


def test_a_server_that_sends_another_part_is_asked_for_the_whole_again(tmp_path):
    with serve_files(files={NAMELESS: CONTENT}, cut_after=[1000], misplaced=7) as server:
        path = download_pretrained_from_url(server.url + NAMELESS, str(tmp_path))
        assert server.ranges == ["", "bytes=1000-", ""]
    assert Path(path).read_bytes() == CONTENT


def test_a_length_that_is_promised_and_not_kept_is_said_unless_a_hash_knows_better(tmp_path):
    with serve_files(files={NAMED: CONTENT, NAMELESS: CONTENT}, promised=100) as server:
        assert Path(download_pretrained_from_url(server.url + NAMED, str(tmp_path))).read_bytes() == CONTENT
        with pytest.raises(CheckpointError, match="cut 100 bytes before the end"):
            download_pretrained_from_url(server.url + NAMELESS, str(tmp_path))
    assert not (tmp_path / Path(NAMELESS).name).exists()


def test_a_file_that_nothing_identifies_is_never_pieced_together(tmp_path):
    with serve_files(files={NAMELESS: CONTENT}, cut_after=[1000], tagged=False) as server:
        path = download_pretrained_from_url(server.url + NAMELESS, str(tmp_path))
        assert server.ranges == ["", ""]
    assert Path(path).read_bytes() == CONTENT


def test_a_whole_file_that_a_kill_left_without_its_name_is_not_fetched_again(tmp_path):
    with serve_files(files={NAMED: CONTENT}, cut_after=[1000] * 4) as server:
        with pytest.raises(CheckpointError):
            download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        next(tmp_path.glob(".*.part")).write_bytes(CONTENT)
        num_asked = len(server.ranges)
        download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert len(server.ranges) == num_asked
    assert left_in(tmp_path) == [Path(NAMED).name]


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path):
    with serve_files(files={NAMED: CONTENT}, cut_after=[1000] * 4) as server:
        with pytest.raises(CheckpointError):
            download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        next(tmp_path.glob(".*.part")).write_bytes(CONTENT + b"more")
        path = download_pretrained_from_url(server.url + NAMED, str(tmp_path))
    assert Path(path).read_bytes() == CONTENT


def test_redirects_are_followed_and_go_on_where_a_download_was_cut(tmp_path):
    files, redirects = (
        {"/store/1": CONTENT},
        {NAMED: "/store/1", "/loop.pt": "/loop.pt", "/local.pt": "file:///etc/hosts"},
    )
    with serve_files(files=files, redirects=redirects, cut_after=[1000]) as server:
        path = download_pretrained_from_url(server.url + NAMED, str(tmp_path))
        assert server.ranges == ["", "", "bytes=1000-", "bytes=1000-"]
        for name in ("/loop.pt", "/local.pt"):
            with pytest.raises(CheckpointError, match="answered 302"):
                download_pretrained_from_url(server.url + name, str(tmp_path))
    assert Path(path).read_bytes() == CONTENT
    assert left_in(tmp_path) == [Path(NAMED).name]


def test_too_many_requests_is_no_reason_to_give_up(tmp_path):
    with serve_files(files={NAMED: CONTENT}, statuses=[429, 408]) as server:
        assert download_pretrained_from_url(server.url + NAMED, str(tmp_path))


def test_a_shared_cache_that_cannot_be_written_is_read(tmp_path):
    (tmp_path / Path(NAMED).name).write_bytes(CONTENT)
    # Taking the lock would fail, as it does on a read-only disk.
    (tmp_path / f".{Path(NAMED).name}.lock").mkdir()
    assert download_pretrained_from_url(f"http://127.0.0.1:9{NAMED}", str(tmp_path))
    (tmp_path / Path(NAMED).name).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="choose another cache_dir"):
        download_pretrained_from_url(f"http://127.0.0.1:9{NAMED}", str(tmp_path))


def test_a_full_disk_is_named_and_not_left_full(tmp_path):
    script = (
        "import resource, signal, sys, open_clip; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "open_clip.download_pretrained_from_url(*sys.argv[1:])"
    )
    source = str(Path(download.__file__).resolve().parents[2])
    with serve_files(files={NAMED: CONTENT}) as server:
        command = [sys.executable, "-c", script, server.url + NAMED, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "File too large" in done.stderr
    assert "Free space or choose another cache_dir" in done.stderr
    assert left_in(tmp_path) == []


def test_processes_that_ask_together_download_once(tmp_path):
    script = "import sys, open_clip; print(open_clip.download_pretrained_from_url(*sys.argv[1:]))"
    source = str(Path(download.__file__).resolve().parents[2])
    with serve_files(files={NAMED: CONTENT}) as server:
        command = [sys.executable, "-c", script, server.url + NAMED, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
        asking = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        answers = [process.communicate(timeout=120)[0].strip() for process in asking]
        assert answers == [str(tmp_path / Path(NAMED).name)] * 3
        assert server.ranges == [""]
