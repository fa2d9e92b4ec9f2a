import shutil
import tarfile

import pytest

from file_server import serve_files
from open_clip.errors import ConfigError, DataError
from shard_sets import write_shard
from training.data.shard_files import open_shard, refuse_pipes


def test_a_shell_command_is_refused_unless_allowed(tmp_path):
    ran = tmp_path / "ran"
    with pytest.raises(DataError, match="--allow-pipe-urls"):
        open_shard(f"pipe:touch {ran}")
    with pytest.raises(DataError, match="--allow-pipe-urls"):
        refuse_pipes(["a.tar", f"PIPE:touch {ran}"], allow_pipe=False)
    assert not ran.exists()
    shard = write_shard(tmp_path / "0.tar", 1)
    with open_shard(f"pipe:cat {shard}", allow_pipe=True) as stream:
        assert stream.read() == shard.read_bytes()


def test_secure_mode_of_the_library_forbids_commands_that_were_allowed(monkeypatch):
    monkeypatch.setattr("webdataset.utils.enforce_security", True)
    with pytest.raises(DataError, match="WDS_SECURE"):
        open_shard("pipe:true", allow_pipe=True)


def test_the_environment_cannot_turn_a_path_into_a_command(tmp_path, monkeypatch):
    shard = write_shard(tmp_path / "0.tar", 1)
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/ran;")
    with open_shard(str(shard)) as stream:
        assert stream.read() == shard.read_bytes()
    assert not (tmp_path / "ran").exists()


def test_other_addresses_go_through_fsspec(tmp_path):
    import fsspec

    shard = write_shard(tmp_path / "0.tar", 2)
    with fsspec.open("memory://shards/0.tar", "wb") as file:
        file.write(shard.read_bytes())
    with open_shard("memory://shards/0.tar") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
        assert len(archive.getnames()) == 6


def test_an_address_that_nothing_reads_is_named():
    with pytest.raises(ConfigError, match="nonsense://a.tar cannot be read"):
        open_shard("nonsense://a.tar")


def test_http_needs_no_package_beyond_curl(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    shard = write_shard(tmp_path / "0.tar", 2)
    with serve_files() as server:
        server.files["/0.tar"] = shard.read_bytes()
        with open_shard(f"{server.url}/0.tar") as stream:
            assert stream.read() == shard.read_bytes()
