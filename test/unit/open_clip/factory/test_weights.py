from open_clip.factory.weights import find_weights_in_folder


def test_a_folders_weights_are_found_in_the_order_of_preference(tmp_path):
    assert find_weights_in_folder(tmp_path) is None
    for name in ("epoch.pth", "any.bin", "model.pth", "pytorch_model.bin", "open_clip_model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights_in_folder(tmp_path) == tmp_path / name
