import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer.patches import PatchDropout, sin_cos_2d


def test_the_fixed_table_holds_columns_before_rows():
    table = sin_cos_2d(8, 3, has_class_token=True)
    assert table.shape == (10, 8)
    assert not table[0].any()
    second_column, second_row = table[2], table[4]
    assert second_column[4:].tolist() == table[1][4:].tolist()
    assert second_row[:4].tolist() == table[1][:4].tolist()


def test_a_width_that_has_no_quarters_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4"):
        sin_cos_2d(6, 2)


def test_dropout_keeps_the_class_token_and_a_share_of_the_patches():
    x = torch.arange(2 * 9.0).reshape(2, 9, 1)
    kept = PatchDropout(0.75).train()(x)
    assert kept.shape == (2, 3, 1)
    assert torch.equal(kept[:, 0], x[:, 0])
    assert len(set(kept[0, 1:, 0].tolist())) == 2


def test_dropout_keeps_at_least_one_patch_and_all_of_them_in_evaluation():
    x = torch.randn(2, 5, 4)
    assert PatchDropout(0.99).train()(x).shape == (2, 2, 4)
    assert PatchDropout(0.99).eval()(x) is x


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ConfigError, match="below 1"):
        PatchDropout(1.0)
