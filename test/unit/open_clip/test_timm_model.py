import sys

import pytest
import torch

from extras import needs_timm
from open_clip import CustomTextCLIP
from open_clip.errors import ConfigError, MissingDependency
from open_clip.timm_model import TimmModel
from tiny_models import tiny_config


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[timm\]'` in the folder of this project"):
        TimmModel("test_vit", 8)


def test_a_projection_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="timm_proj is 'conv'; it can be linear, mlp, none"):
        TimmModel("test_vit", 8, proj="conv")


class TestWithTimm:
    pytestmark = needs_timm

    @pytest.mark.parametrize(
        "options, names",
        [
            ({}, ["head.proj.weight"]),
            ({"proj_bias": True}, ["head.proj.weight", "head.proj.bias"]),
            ({"proj": "mlp"}, ["head.mlp.fc1.weight", "head.mlp.fc1.bias", "head.mlp.fc2.weight"]),
            ({"proj": ""}, []),
            ({"proj": None, "pool": "token"}, []),
        ],
    )
    def test_the_head_holds_the_projection_asked_for(self, options, names):
        tower = TimmModel("test_vit", 8, **options)
        assert [name for name, _ in tower.named_parameters() if name.startswith("head.")] == names
        assert tower(torch.zeros(2, 3, 160, 160)).shape == (2, 8)

    def test_without_a_projection_the_trunks_width_comes_out(self):
        tower = TimmModel("test_vit", 8, proj="none")
        assert tower(torch.zeros(1, 3, 160, 160)).shape == (1, tower.trunk.num_features)

    @pytest.mark.parametrize("pool", ["abs_attn", "rot_attn"])
    def test_attention_pools_need_a_map_of_features(self, pool):
        assert TimmModel("resnet10t", 8, image_size=176, pool=pool)(torch.zeros(1, 3, 176, 176)).shape == (1, 8)
        with pytest.raises(ConfigError, match="needs a network with a map of features"):
            TimmModel("test_vit", 8, pool=pool)

    def test_an_unknown_network_is_refused_with_the_nearest_names(self):
        with pytest.raises(ConfigError, match="has no model 'test_vitt'. Did you mean test_vit"):
            TimmModel("test_vitt", 8)

    def test_another_input_size_keeps_the_tower_working(self):
        tower = TimmModel("test_vit", 8, image_size=160)
        tower.set_input_size((96, 128))
        assert tower.image_size == (96, 128)
        assert tower(torch.zeros(1, 3, 96, 128)).shape == (1, 8)

    def test_locking_leaves_the_last_groups_and_the_head_trainable(self):
        tower = TimmModel("test_vit", 8)
        tower.lock()
        assert {name for name, p in tower.named_parameters() if p.requires_grad} == {"head.proj.weight"}
        tower.requires_grad_(True)
        tower.lock(unlocked_groups=2)
        trainable = {name.split(".")[1] for name, p in tower.named_parameters() if p.requires_grad}
        assert trainable < {"proj", "norm", "fc_norm", "blocks"}

    def test_frozen_batch_norms_keep_their_statistics_and_their_activation(self):
        tower = TimmModel("resnet10t", 8, image_size=64)
        images = torch.randn(4, 3, 64, 64)
        expected = tower.eval()(images)
        tower.lock(unlocked_groups=1, freeze_bn_stats=True)
        tower.train()
        before = {key: value.clone() for key, value in tower.state_dict().items() if "running" in key}
        tower(images)
        after = tower.state_dict()
        moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
        assert len(before) > len(moved)
        assert all("layer4" in key for key in moved)
        torch.testing.assert_close(tower.eval()(images).shape, expected.shape)

    def test_freezing_every_batch_norm_makes_training_mode_give_the_same_features(self):
        tower = TimmModel("resnet10t", 8, image_size=64).eval()
        images = torch.randn(4, 3, 64, 64)
        expected = tower(images)
        tower.lock(freeze_bn_stats=True)
        torch.testing.assert_close(tower.train()(images), expected)

    def test_batch_norms_that_hold_an_activation_are_frozen_and_keep_it(self):
        tower = TimmModel("fastvit_t8", 8, image_size=64).eval()
        images = torch.randn(2, 3, 64, 64)
        expected = tower(images)
        tower.lock(unlocked_groups=1, freeze_bn_stats=True)
        torch.testing.assert_close(tower(images), expected)
        counted = {key for key in tower.state_dict() if key.endswith("num_batches_tracked")}
        assert not {key for key in counted if "stem" in key or "stages.0" in key}

    def test_checkpointed_gradients_equal_plain_ones(self):
        torch.manual_seed(0)
        tower, images = TimmModel("test_vit", 8), torch.randn(2, 3, 160, 160)
        gradients = []
        for enable in (False, True):
            tower.zero_grad()
            tower.set_grad_checkpointing(enable)
            tower(images).square().sum().backward()
            gradients.append([p.grad.clone() for p in tower.parameters()])
        for plain, checkpointed in zip(*gradients, strict=True):
            torch.testing.assert_close(plain, checkpointed)

    def test_intermediates_come_from_the_blocks_asked_for(self):
        vision = {"timm_model_name": "test_vit", "image_size": 160}
        config = tiny_config(custom_text=True)
        config.pop("custom_text")
        config["vision_cfg"] = vision
        model, images = CustomTextCLIP(**config).eval(), torch.randn(2, 3, 160, 160)
        found = model.forward_intermediates(images, image_indices=[0, -1], image_output_extra_tokens=True)
        assert [tuple(item.shape) for item in found["image_intermediates"]] == [(2, 64, 10, 10)] * 2
        assert [tuple(item.shape) for item in found["image_intermediates_prefix"]] == [(2, 1, 64)] * 2
        torch.testing.assert_close(found["image_features"], model.encode_image(images, normalize=True))

    def test_shared_batch_norms_still_apply_their_activation(self):
        tower, images = TimmModel("test_efficientnet", 8).eval(), torch.randn(2, 3, 160, 160)
        expected = tower(images)
        tower.share_batch_norms()
        assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in tower.modules())
        torch.testing.assert_close(tower.eval()(images), expected)
