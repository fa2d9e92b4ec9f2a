import pytest
import torch

from open_clip.checkpoint import resize_pos_embed, resize_text_pos_embed
from open_clip.errors import CheckpointError
from tiny_models import tiny_clip

IMAGE, TEXT = "visual.positional_embedding", "positional_embedding"


def test_the_class_row_stays_and_a_constant_grid_stays_constant():
    model = tiny_clip(vision={"image_size": [48, 24]})
    table = torch.cat([torch.full((1, 64), 5.0), torch.full((16, 64), 2.0)])
    state = {IMAGE: table}
    resize_pos_embed(state, model)
    assert state[IMAGE].shape == (1 + 6 * 3, 64)
    assert torch.equal(state[IMAGE][0], table[0])
    torch.testing.assert_close(state[IMAGE][1:], torch.full((18, 64), 2.0))


def test_text_positions_are_stretched_along_the_text():
    model = tiny_clip(text={"context_length": 32})
    state = {TEXT: torch.arange(16.0)[:, None].expand(16, 64)}
    resize_text_pos_embed(state, model)
    assert state[TEXT].shape == (32, 64)
    assert state[TEXT][1, 0] == 0.25


def test_tables_that_fit_are_not_touched():
    model = tiny_clip()
    state = model.state_dict()
    before = dict(state)
    resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    assert all(state[key] is before[key] for key in (IMAGE, TEXT))


def test_what_cannot_be_resized_is_refused_with_its_sizes():
    with pytest.raises(CheckpointError, match="12 patch rows, which is no square grid"):
        resize_pos_embed({IMAGE: torch.zeros(13, 64)}, tiny_clip())
    with pytest.raises(CheckpointError, match="32 wide in the file and 64 in the model"):
        resize_text_pos_embed({TEXT: torch.zeros(16, 32)}, tiny_clip())
