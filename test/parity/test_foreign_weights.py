"""Weights of big_vision and of Apple's MobileCLIP become the very tensors that upstream makes of them."""

import importlib.util
import json

import numpy as np
import pytest
import torch

import open_clip
import peer
from extras import needs_timm
from foreign_weights import (
    big_vision_arrays,
    mobile_clip_weights,
    register_tiny_siglip,
    stack_blocks,
    tiny_siglip_config,
)
from tiny_models import write_config

pytestmark = [*peer.needs_peer, *needs_timm]

TOWERS = [["tiny_siglip", 32, 8], ["tiny_siglip_coarser", 48, 12]]
BIG_VISION = ["plain", "stacked", "without_root", "with_optimizer", "coarser"]
MOBILE = ["fastvit", "fastvit_in_a_checkpoint", "vit"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("foreign_script", peer.SCRIPTS / "foreign_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    configs = folder / "configs"
    configs.mkdir()
    for tower in TOWERS:
        register_tiny_siglip(*tower)
        write_config(configs, f"open_{tower[0]}", tiny_siglip_config(tower[0], tower[1]))
    text = {"context_length": 12, "vocab_size": 50, "width": 64, "heads": 2, "layers": 2}
    for name, timm_name, pool in (("mobile_s", "fastvit_mci0", "avg"), ("mobile_b", "vit_base_mci_224", "token")):
        vision = {"timm_model_name": timm_name, "timm_pool": pool, "timm_proj": None, "image_size": 224}
        config = {"embed_dim": 32, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
        write_config(configs, name, config)
    open_clip.add_model_config(configs)
    return folder


@pytest.fixture(scope="module")
def cases(folder):
    plain = big_vision_arrays(seed=41)
    bare = {key.removeprefix("params/"): value for key, value in plain.items()}
    files = {
        "plain": plain,
        "stacked": stack_blocks(plain),
        "without_root": bare,
        "with_optimizer": plain | {"opt/0/count": np.array(7), "opt/0/mu/img/embedding/bias": np.ones(24)},
    }
    cases = {}
    for label, arrays in files.items():
        np.savez(folder / f"{label}.npz", **arrays)
        cases[label] = ("open_tiny_siglip", str(folder / f"{label}.npz"), {})
    cases["coarser"] = ("open_tiny_siglip_coarser", str(folder / "stacked.npz"), {})
    for label, name in (("fastvit", "mobile_s"), ("vit", "mobile_b")):
        torch.manual_seed(43)
        weights = mobile_clip_weights(open_clip.create_model(name).state_dict())
        torch.save(weights, folder / f"{label}.pt")
        cases[label] = (name, str(folder / f"{label}.pt"), {})
        if label == "fastvit":
            torch.save({"state_dict": weights}, folder / "wrapped.pt")
            cases["fastvit_in_a_checkpoint"] = (name, str(folder / "wrapped.pt"), {})
    return cases


@pytest.fixture(scope="module")
def theirs(folder, cases):
    request = {"folder": str(folder / "configs"), "towers": TOWERS, "cases": cases}
    return peer.run_peer("foreign_weights", request, folder)


@pytest.mark.parametrize("label", BIG_VISION + MOBILE)
def test_every_tensor_is_the_one_that_upstream_makes(theirs, cases, script, label):
    weights, features = script.answer(*cases[label])
    assert json.loads(weights.tobytes()) == json.loads(theirs[f"{label} weights"].tobytes())
    np.testing.assert_allclose(features, theirs[f"{label} features"], atol=1e-6)


def test_one_tower_can_be_taken_from_such_a_file(cases):
    name, path, _ = cases["stacked"]
    expected = open_clip.create_model(name, pretrained=path).state_dict()
    image = open_clip.create_model(name, pretrained_image_path=path).state_dict()
    text = open_clip.create_model(name, pretrained_text_path=path).state_dict()
    key, other = "visual.trunk.blocks.1.attn.qkv.weight", "text.transformer.resblocks.1.attn.in_proj_weight"
    assert torch.equal(image[key], expected[key])
    assert not torch.equal(image[other], expected[other])
    assert torch.equal(text[other], expected[other])
    assert not torch.equal(text[key], expected[key])


def test_the_door_converts_as_upstreams_does(cases):
    from open_clip.convert import load_big_vision_weights

    name, path, _ = cases["plain"]
    loaded, expected = open_clip.create_model(name), open_clip.create_model(name, pretrained=path)
    assert load_big_vision_weights(loaded, path) is None
    for key, value in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
