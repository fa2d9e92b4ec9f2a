"""Our models against upstream's: same first weights bit for bit, same outputs, same gradients."""

import importlib.util

import numpy as np
import pytest

import open_clip
import peer
from tiny_models import tiny_config, write_config

pytestmark = peer.needs_peer

_ATTENTION_POOL = {"attn_pooler_queries": 5, "attn_pooler_heads": 2}
_GELU_TANH = {"norm_kwargs": {"eps": 1e-3}, "act_kwargs": {"approximate": "tanh"}}
_RESNET = {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64, "image_size": 64, "patch_size": None}
_EVERY_SWITCH = {
    "qk_norm": True,
    "scale_heads": True,
    "scale_attn_inner": True,
    "scale_attn": True,
    "scale_fc": True,
    "ls_init_value": 0.3,
}

CONFIGS = {
    "plain": tiny_config(),
    "quick": tiny_config(quick_gelu=True),
    "bias": tiny_config(init_logit_scale=2.3, init_logit_bias=-10.0, nonscalar_logit_scale=True),
    "average": tiny_config({"pool_type": "avg"}),
    "average-late-norm": tiny_config({"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}),
    "unpooled": tiny_config({"pool_type": "none"}),
    "layer-scale": tiny_config({"ls_init_value": 0.1}, {"ls_init_value": 0.2}),
    "fixed-positions": tiny_config({"pos_embed_type": "sin_cos_2d"}),
    "attention-pool": tiny_config({"attentional_pool": True, **_ATTENTION_POOL}),
    "attention-pool-narrow": tiny_config({"attentional_pool": True, **_ATTENTION_POOL}, embed_dim=32),
    "attention-pool-parallel": tiny_config({"attentional_pool": "parallel", **_ATTENTION_POOL}),
    "attention-pool-cascade": tiny_config({"attentional_pool": "cascade", **_ATTENTION_POOL}),
    "two-way-text": tiny_config(None, {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}),
    "read-at-eos": tiny_config(None, {"pool_type": "eos", "eos_id": 599}),
    "read-at-first": tiny_config(None, {"pool_type": "first"}),
    "no-projection": tiny_config(None, {"proj_type": "none"}),
    "layer-arguments": tiny_config(_GELU_TANH, _GELU_TANH),
    "custom-block": tiny_config({"block_type": "custom"}, {"block_type": "custom"}),
    "custom-block-switches": tiny_config(_EVERY_SWITCH, _EVERY_SWITCH),
    "class-token-text": tiny_config(None, {"embed_cls": True}, custom_text=True),
    "class-token-two-way": tiny_config(None, {"embed_cls": True, "no_causal_mask": True}, custom_text=True),
    "mlp-ratio": tiny_config({"mlp_ratio": 3.7}, {"mlp_ratio": 2.3}),
    "oblong": tiny_config({"image_size": [32, 48], "patch_size": [8, 16]}),
    "patch-dropout": tiny_config({"patch_dropout": 0.5}),
    "resnet": tiny_config(_RESNET),
    "resnet-quick": tiny_config(_RESNET, quick_gelu=True),
    "resnet-training": tiny_config(_RESNET),
}
_IN_TRAINING = ("patch-dropout", "resnet-training")
CASES = [
    {"label": f"{name}{'-custom' if custom else ''}", "name": name, "options": {"force_custom_text": custom}}
    | ({"train": True} if name in _IN_TRAINING else {})
    for name in CONFIGS
    for custom in (False, True)
]
# Fixed positions stay fixed here; upstream makes them trainable when the whole tower is unlocked.
_DIFFER_ON_PURPOSE = {"visual.positional_embedding"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    configs = folder / "configs"
    configs.mkdir()
    for name, config in CONFIGS.items():
        write_config(configs, name, config)
    open_clip.add_model_config(configs)
    return peer.run_peer("towers", {"folder": str(configs), "cases": CASES}, folder)


@pytest.fixture(scope="module")
def script():
    """The script that the peer runs, to be run with our package too."""
    spec = importlib.util.spec_from_file_location("towers_script", peer.SCRIPTS / "towers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _theirs(answers, label):
    return {key.partition(":")[2]: value for key, value in answers.items() if key.partition(":")[0] == label}


def _group(answers, prefix):
    return {key: value for key, value in answers.items() if key.startswith(prefix)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["label"])
def test_a_seed_gives_the_weights_outputs_and_gradients_of_upstream(answers, script, case):
    theirs, ours = _theirs(answers, case["label"]), script.answer(case)

    assert list(_group(ours, "state/")) == list(_group(theirs, "state/"))
    for key, value in _group(theirs, "state/").items():
        assert np.array_equal(ours[key], value), key
    assert list(ours["parameters"]) == list(theirs["parameters"])

    outputs = [key for key in theirs if key.startswith(("image", "text", "logits", "all/", "early/"))]
    for key in outputs:
        np.testing.assert_allclose(ours[key], theirs[key], atol=2e-6, rtol=1e-5, err_msg=key)

    assert set(_group(ours, "gradient/")) == set(_group(theirs, "gradient/"))
    for key, value in _group(theirs, "gradient/").items():
        # A shift of all keys changes no score: such a bias has a gradient of rounding noise alone. A head's gain is one
        # number, whose gradient is a sum over all tokens that nearly cancels.
        relative = 1e-5 if key.endswith("head_scale") else 5e-6
        noise = 4e-6 if key.endswith("ln_k.bias") else 2e-7
        assert np.abs(ours[key] - value).max() <= relative * np.abs(value).max() + noise, key


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["label"])
def test_locking_and_weight_decay_touch_the_parameters_upstream_touches(answers, script, case):
    theirs, ours = _theirs(answers, case["label"]), script.answer(case)
    for key in _group(theirs, "trainable/"):
        assert set(ours[key]) ^ set(theirs[key]) <= (
            _DIFFER_ON_PURPOSE if case["name"] == "fixed-positions" else set()
        ), key
    assert list(ours["no_decay"]) == list(theirs["no_decay"])
    if case["name"].startswith("resnet"):
        assert list(ours["frozen"]) == list(theirs["frozen"])
