import sys

import pytest

from benchmarks.wheels import NEEDED, PEER, install, pinned_versions, torchvision_for


def test_the_peer_is_pinned_and_its_versions_win():
    versions = pinned_versions()
    assert versions["open-clip-torch"] == "3.3.0"
    assert versions["webdataset"] == "0.2.86"
    assert {"ftfy", "regex", "pillow"} <= versions.keys()


@pytest.mark.parametrize("torch_version, expected", [("2.11", "0.26.0"), ("2.14.0+cu130", "0.29.0")])
def test_torchvision_belongs_to_its_torch(torch_version, expected):
    assert torchvision_for(torch_version) == expected


def test_a_torch_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="such as 2.11"):
        torchvision_for("newest")


def test_a_folder_without_the_peers_wheels_is_refused_before_anything_is_installed(tmp_path):
    with pytest.raises(SystemExit, match="open_clip_torch.*make bench-wheels"):
        install(tmp_path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_what_both_sides_import_is_among_what_is_looked_for():
    core = {"numpy", "PIL", "regex", "ftfy", "safetensors", "huggingface_hub", "yaml", "tqdm"}
    assert core <= set(NEEDED.values())
    assert not set(PEER) & set(NEEDED)
    assert not set(NEEDED.values()) & (set(sys.stdlib_module_names) - {"click"})
