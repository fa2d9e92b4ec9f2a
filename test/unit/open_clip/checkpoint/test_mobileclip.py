"""Apple's names become ours; tensor by tensor equality with upstream is test/parity's."""

import pytest
import torch

import open_clip
from extras import needs_timm
from foreign_weights import mobile_clip_weights
from open_clip.checkpoint.load import list_mismatches, load_weights
from open_clip.checkpoint.mobileclip import convert_mobile_clip
from open_clip.errors import CheckpointError
from tiny_models import tiny_clip


def test_a_model_of_another_kind_is_refused_with_one_that_fits():
    weights = {"image_encoder.model.patch_emb.0.block.conv.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match="Apple's MobileCLIP weights.*MobileCLIP-B"):
        load_weights(tiny_clip(), weights)


class TestPublished:
    pytestmark = needs_timm

    @pytest.mark.parametrize("name", ["MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP-B"])
    def test_published_sizes_fit_their_models(self, name):
        with torch.device("meta"):
            model = open_clip.create_model(name, device="meta")
            weights = mobile_clip_weights(model.state_dict())
            assert any(key.startswith("text_encoder.transformer.0.pre_norm_mha.1.qkv_proj") for key in weights)
            assert list_mismatches(model, convert_mobile_clip(model, weights)) == []
