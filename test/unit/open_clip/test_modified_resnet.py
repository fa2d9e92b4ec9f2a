import pytest
import torch

import open_clip
from open_clip.errors import ConfigError
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer.norms import FrozenBatchNorm2d
from tiny_models import tiny_clip

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return ModifiedResNet([1, 2, 1, 1], output_dim=32, heads=4, image_size=64, width=8).eval()


def test_a_list_of_layers_in_the_configuration_selects_this_tower():
    model = tiny_clip(vision={"layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "image_size": 64})
    assert isinstance(model.visual, ModifiedResNet)
    assert model.visual.image_size == 64
    assert model.visual.attnpool.num_heads == 8
    assert model.encode_image(IMAGES).shape == (2, 64)
    assert model.no_weight_decay() == {"positional_embedding"}


def test_every_block_starts_as_its_shortcut(tower):
    block = tower.layer2[1]
    positive = torch.rand(2, block.conv1.in_channels, 4, 4)
    assert torch.equal(block(positive), positive)


def test_the_size_of_the_images_must_be_a_square():
    options = {"output_dim": 8, "heads": 4, "width": 8}
    assert ModifiedResNet([1, 1, 1, 1], image_size=(64, 64), **options).image_size == 64
    with pytest.raises(ConfigError, match="square"):
        ModifiedResNet([1, 1, 1, 1], image_size=(64, 96), **options)
    with pytest.raises(ConfigError, match="four stages"):
        ModifiedResNet([1, 1, 1], image_size=64, **options)
    with pytest.raises(ConfigError, match="heads"):
        ModifiedResNet([1, 1, 1, 1], image_size=64, output_dim=8, heads=5, width=8)


def test_intermediates_are_the_stem_and_the_stages(tower):
    output = tower.forward_intermediates(IMAGES, indices=[0, -1], output_extra_tokens=True)
    assert [tuple(x.shape) for x in output["image_intermediates"]] == [(2, 8, 16, 16), (2, 256, 2, 2)]
    assert torch.equal(output["image_features"], tower(IMAGES))
    last = tower.forward_intermediates(IMAGES, indices=2, stop_early=True, intermediates_only=True)
    assert [x.shape[1] for x in last["image_intermediates"]] == [128, 256]
    assert "image_features" not in last
    with pytest.raises(ConfigError, match="NLC"):
        tower.forward_intermediates(IMAGES, output_fmt="NLC")
    with pytest.raises(ConfigError, match="5 blocks"):
        tower.forward_intermediates(IMAGES, indices=[5])


def test_locking_freezes_all_and_can_stop_the_batch_statistics(tower):
    with pytest.raises(ConfigError, match="as a whole"):
        tower.lock(unlocked_groups=1)
    expected = tower(IMAGES)
    tower.lock(freeze_bn_stats=True)
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    tower.train()
    assert torch.equal(tower(IMAGES), tower(IMAGES))
    torch.testing.assert_close(tower(IMAGES), expected)
    assert isinstance(tower.bn1, FrozenBatchNorm2d)
    assert not any(name.endswith("num_batches_tracked") for name in tower.state_dict())


def test_a_frozen_tower_still_reads_weights_that_count_batches(tower):
    weights = tower.state_dict()
    tower.lock(freeze_bn_stats=True)
    assert not any(tower.load_state_dict(weights))


def test_half_precision_keeps_the_batch_norms_in_fp32():
    torch.manual_seed(0)
    model = open_clip.create_model("RN50", precision="bf16", device="meta")
    assert model.visual.conv1.weight.dtype == torch.bfloat16
    assert model.visual.bn1.weight.dtype == torch.float32
    assert model.visual.attnpool.c_proj.weight.dtype == torch.bfloat16


def test_the_gradient_reaches_every_parameter(tower):
    for module in tower.modules():
        if hasattr(module, "bn3"):
            torch.nn.init.ones_(module.bn3.weight)
    tower.train()(IMAGES).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in tower.parameters())
