"""big_vision's names and shapes become ours; tensor by tensor equality with upstream is test/parity's."""

import contextlib

import pytest
import torch
from torch import nn

import open_clip
from extras import needs_timm
from foreign_weights import ATTENTION, big_vision_arrays, big_vision_shapes, stack_blocks
from open_clip.checkpoint.big_vision import convert_big_vision_state_dict
from open_clip.checkpoint.keys import fit_to_model
from open_clip.checkpoint.load import list_mismatches, load_weights
from open_clip.errors import CheckpointError
from tiny_models import tiny_clip


class Siglip(nn.Module):
    """The few things the conversion asks of a model."""

    def __init__(self):
        super().__init__()
        self.text, self.visual = nn.Module(), nn.Module()
        self.visual.trunk = nn.Module()
        self.visual.trunk.patch_embed = nn.Module()
        self.visual.trunk.patch_embed.proj = nn.Conv2d(3, 24, 8, 8)


def read(arrays):
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def test_entries_are_renamed_and_turned():
    arrays = read(big_vision_arrays(seed=1))
    found = convert_big_vision_state_dict(Siglip(), arrays)
    block = "params/txt/Encoder_0/encoderblock_2/"
    dense = arrays[f"{block}MlpBlock_0/Dense_1/kernel"]
    assert torch.equal(found["text.transformer.resblocks.2.mlp.c_proj.weight"], dense.T)
    query = arrays[f"{block}{ATTENTION}/query/kernel"].reshape(16, 16)
    assert torch.equal(found["text.transformer.resblocks.2.attn.in_proj_weight"][:16], query.T)
    value = arrays[f"params/img/MAPHead_0/{ATTENTION}/value/bias"].flatten()
    assert torch.equal(found["visual.trunk.attn_pool.kv.bias"][24:], value)
    patches = arrays["params/img/embedding/kernel"]
    assert torch.equal(found["visual.trunk.patch_embed.proj.weight"][5, 2, 1, 7], patches[1, 7, 2, 5])


def test_stacked_blocks_are_the_same_blocks():
    arrays = big_vision_arrays(seed=2)
    apart = convert_big_vision_state_dict(Siglip(), read(arrays))
    stacked = convert_big_vision_state_dict(Siglip(), read(stack_blocks(arrays)))
    assert apart.keys() == stacked.keys()
    assert all(torch.equal(apart[key], stacked[key]) for key in apart)


def test_what_has_no_place_keeps_its_name():
    arrays = read(big_vision_arrays(seed=3)) | {"params/img/head/kernel": torch.ones(2, 2), "opt/count": torch.ones(1)}
    found = convert_big_vision_state_dict(Siglip(), arrays)
    assert [key for key in found if "/" in key] == ["img/head/kernel"]


def test_a_model_of_another_kind_is_refused_with_one_that_fits():
    with pytest.raises(CheckpointError, match="big_vision's SigLIP weights.*such as ViT-B-16-SigLIP"):
        load_weights(tiny_clip(), read(big_vision_arrays(seed=4)))


def test_a_part_that_is_missing_or_misshapen_is_named():
    arrays = read(big_vision_arrays(seed=5))
    key = f"params/img/Transformer/encoderblock_1/{ATTENTION}/key/bias"
    without = {name: value for name, value in arrays.items() if name != key}
    with pytest.raises(CheckpointError, match="of visual.trunk.blocks.1.attn.qkv.bias, key are missing"):
        convert_big_vision_state_dict(Siglip(), without)
    with pytest.raises(CheckpointError, match=r"img/embedding/kernel has the shape \(4,\)"):
        convert_big_vision_state_dict(Siglip(), arrays | {"params/img/embedding/kernel": torch.ones(4)})


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (1, 1, 1, 1, 1, 1), (5000, 1)])
@pytest.mark.parametrize("are_stacked", [False, True])
def test_an_entry_of_any_form_is_refused_or_left_to_whoever_loads_it(shape, are_stacked):
    arrays = big_vision_arrays(seed=6)
    weights = read(stack_blocks(arrays) if are_stacked else arrays)
    model = Siglip()
    for key in weights:
        with contextlib.suppress(CheckpointError):
            fit_to_model(weights | {key: torch.ones(shape)}, model)


class TestPublished:
    pytestmark = needs_timm

    @pytest.mark.parametrize(
        "name, image, text",
        [
            ("ViT-B-16-SigLIP", (768, 3072, 12, 12, 196, 16), (768, 3072, 12, 12, 64, 32000)),
            ("ViT-SO400M-14-SigLIP-384", (1152, 4304, 27, 16, 729, 14), (1152, 4304, 27, 16, 64, 32000)),
            ("ViT-gopt-16-SigLIP2-256", (1536, 6144, 40, 16, 256, 16), (1152, 4304, 27, 16, 64, 256000)),
        ],
    )
    def test_published_sizes_fit_their_models(self, name, image, text):
        with torch.device("meta"):
            model = open_clip.create_model(name, device="meta")
            arrays = {key: torch.empty(shape) for key, shape in big_vision_shapes(image, text).items()}
            assert list_mismatches(model, fit_to_model(arrays, model)) == []
