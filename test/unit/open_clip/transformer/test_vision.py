import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer import VisionTransformer
from tiny_models import tiny_batch

_SIZES = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0, "output_dim": 48}


def _tower(**options):
    torch.manual_seed(0)
    return VisionTransformer(**(_SIZES | options)).eval()


def test_an_image_becomes_one_vector_of_the_embedding_width():
    tower = _tower()
    assert tower(tiny_batch()[0]).shape == (3, 48)
    assert tower.image_size == (32, 32)
    assert tower.grid_size == (4, 4)


def test_tokens_come_along_when_asked_for():
    pooled, tokens = _tower(output_tokens=True)(tiny_batch()[0])
    assert pooled.shape == (3, 48)
    assert tokens.shape == (3, 16, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"pool_type": "max"},
        {"pos_embed_type": "rotary"},
        {"attentional_pool": "twice"},
        {"attentional_pool": "cascade"},
        {"image_size": (32, 64), "pos_embed_type": "sin_cos_2d"},
        {"image_size": (32, 32, 3)},
    ],
)
def test_options_that_cannot_be_built_are_refused(options):
    with pytest.raises(ConfigError):
        _tower(**options)


def test_fixed_positions_stay_fixed_when_the_tower_is_unlocked():
    tower = _tower(pos_embed_type="sin_cos_2d")
    tower.lock(unlocked_groups=99)
    assert [name for name, p in tower.named_parameters() if not p.requires_grad] == ["positional_embedding"]


def test_intermediates_keep_the_shape_of_the_grid():
    output = _tower(image_size=(32, 16)).forward_intermediates(torch.randn(2, 3, 32, 16), indices=1)
    assert [tuple(tokens.shape) for tokens in output["image_intermediates"]] == [(2, 64, 4, 2)]
    assert output["image_features"].shape == (2, 48)


def test_a_grid_with_dropped_patches_is_refused():
    tower = _tower(patch_dropout=0.5).train()
    with pytest.raises(ConfigError, match="NCHW needs all patches"):
        tower.forward_intermediates(tiny_batch()[0])
