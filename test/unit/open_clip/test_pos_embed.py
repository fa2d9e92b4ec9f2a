from types import SimpleNamespace

import numpy as np
import pytest
import torch

from open_clip import pos_embed
from open_clip.errors import CheckpointError, ConfigError


def test_a_line_is_coded_by_sines_then_cosines():
    table = pos_embed.get_1d_sincos_pos_embed_from_grid(4, [0, 1])
    assert table[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert table[1] == pytest.approx([np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)])
    with pytest.raises(ConfigError, match="even"):
        pos_embed.get_1d_sincos_pos_embed_from_grid(3, [0])


def test_a_grid_codes_columns_before_rows_and_the_class_token_as_zeros():
    table = pos_embed.get_2d_sincos_pos_embed(8, 2, cls_token=True)
    line = pos_embed.get_1d_sincos_pos_embed_from_grid(4, [0, 1])
    assert table.shape == (5, 8)
    assert not table[0].any()
    assert np.array_equal(table[2], np.concatenate([line[1], line[0]]))
    with pytest.raises(ConfigError, match="multiple of 4"):
        pos_embed.get_2d_sincos_pos_embed(6, 2)


def test_tables_of_mae_are_resized_to_the_model():
    model = SimpleNamespace(patch_embed=SimpleNamespace(num_patches=16), pos_embed=torch.zeros(1, 17, 4))
    weights = {"pos_embed": torch.ones(1, 5, 4)}
    pos_embed.interpolate_pos_embed(model, weights)
    torch.testing.assert_close(weights["pos_embed"], torch.ones(1, 17, 4))
    with pytest.raises(CheckpointError, match="square"):
        pos_embed.interpolate_pos_embed(model, {"pos_embed": torch.ones(1, 8, 4)})
