import pytest

from open_clip.errors import CheckpointError
from open_clip.factory.weights import find_weights_file, find_weights_in_folder


def test_a_folders_weights_are_found_in_the_order_of_preference(tmp_path):
    assert find_weights_in_folder(tmp_path) is None
    for name in ("epoch.pth", "any.bin", "model.pth", "pytorch_model.bin", "open_clip_model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights_in_folder(tmp_path) == tmp_path / name


def test_what_is_no_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder; name one weights file in it, or .* local-dir:"):
        find_weights_file(tmp_path)
    with pytest.raises(CheckpointError, match="is a device or a pipe"):
        find_weights_file("/dev/null")
    (tmp_path / "epoch_5.ckpt").touch()
    with pytest.raises(CheckpointError, match="no such weights file. Did you mean epoch_5.ckpt"):
        find_weights_file(tmp_path / "epoch5.ckpt")
    assert find_weights_file("laion2b") is None
