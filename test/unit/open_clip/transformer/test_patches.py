import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.model import CLIP
from open_clip.transformer.patches import PatchDropout, sin_cos_2d
from tiny_models import tiny_clip, tiny_coca, tiny_config


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


def _resnet():
    return CLIP(**tiny_config({"layers": [1, 1, 1, 1], "width": 16, "image_size": 32})).eval()


@pytest.mark.parametrize("make", [tiny_clip, tiny_coca, _resnet])
@pytest.mark.parametrize(
    "images, said",
    [
        (torch.zeros(1, 3, 64, 64), "64x64.*takes 32x32"),
        (torch.zeros(1, 3, 1, 1), "1x1.*takes 32x32"),
        (torch.zeros(1, 3, 128, 8), "128x8.*takes 32x32"),
        (torch.zeros(1, 4, 32, 32), r"\[1, 4, 32, 32\].*takes \[batch, 3, 32, 32\]"),
        (torch.zeros(1, 32, 32, 3), r"takes \[batch, 3, 32, 32\]"),
        (torch.zeros(3, 32, 32), r"\[3, 32, 32\].*unsqueeze"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "uint8.*floating point"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_both_forms(make, images, said):
    model = make()
    for call in (model.encode_image, model.visual, model):
        with pytest.raises(ConfigError, match=said):
            call(images)


def test_patches_cut_off_at_the_edge_and_a_table_put_in_by_hand_pass():
    model = tiny_clip()
    assert model.encode_image(torch.zeros(1, 3, 39, 33)).shape == (1, 64)
    model.visual.positional_embedding = torch.nn.Parameter(torch.zeros(1 + 8 * 8, 64))
    assert model.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, 64)
