import pytest
import torch

from open_clip.checkpoint import load_checkpoint, load_weights
from open_clip.errors import CheckpointError
from tiny_models import tiny_clip


def test_loaded_weights_are_the_ones_in_the_file(tmp_path):
    source, target, path = tiny_clip(seed=1), tiny_clip(seed=2), tmp_path / "weights.pt"
    torch.save({"epoch": 1, "state_dict": source.state_dict()}, path)
    result = load_checkpoint(target, path)
    assert list(result) == [[], []]
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_weights_of_the_top_level_layout_load_into_the_custom_one():
    source, target = tiny_clip(seed=1), tiny_clip(seed=2, custom_text=True)
    load_weights(target, source.state_dict())
    assert torch.equal(target.text.text_projection, source.text_projection)


def test_what_does_not_fit_is_listed_ten_then_counted_with_both_shapes(tmp_path):
    path = tmp_path / "weights.pt"
    source = tiny_clip(vision={"width": 32})
    torch.save(source.state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tiny_clip(), path)
    said = str(caught.value)
    assert said.startswith(f"{path}: the weights do not fit the model.")
    assert "visual.class_embedding is (32,) in the file and (64,) in the model" in said
    assert "and 22 more" in said
    assert len(said.splitlines()) <= 6


def test_missing_and_unknown_entries_are_refused_only_when_strict():
    state = tiny_clip(seed=1).state_dict()
    state["extra"] = state.pop("ln_final.bias")
    with pytest.raises(CheckpointError, match="1 missing in the file: ln_final.bias\n1 unknown to the model: extra"):
        load_weights(tiny_clip(), state)
    result = load_weights(tiny_clip(), state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["ln_final.bias"], ["extra"])
