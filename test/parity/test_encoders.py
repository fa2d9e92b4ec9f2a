"""Models with timm and Hugging Face towers against upstream's: numbers, gradients, locks, sizes, precisions.

Both sides run in processes of their own, where timm or transformers lies beside the peer.
"""

from pathlib import Path

import numpy as np
import pytest

import open_clip
import peer
from extras import extras_folders, needs_hf
from tiny_encoders import ENCODERS, write_encoder
from tiny_models import tiny_config, write_config

SOURCES = Path(open_clip.__file__).resolve().parents[1]


def _vision(name, image_size, pool, proj, **options):
    tower = {"timm_model_name": f"small_{name}", "image_size": image_size, "timm_pool": pool, "timm_proj": proj}
    return tiny_config(custom_text=True) | {"vision_cfg": tower | options}


_DROPS = {"timm_drop_path": 0.1, "timm_drop": 0.1}
TIMM = {
    "siglip": _vision("vit_base_patch16_siglip_224", 32, "map", "none") | {"init_logit_bias": -10.0},
    "quickgelu": _vision("vit_base_patch16_clip_quickgelu_224", 32, "token", "linear", timm_proj_bias=True),
    "mobileclip-b": _vision("vit_base_mci_224", 64, "token", None),
    "mobileclip2-l": _vision("vit_large_patch14_clip_224", 28, "token", None, timm_drop_path=0.1),
    "mobileclip-s": _vision("fastvit_mci0", 64, "avg", None, timm_drop_path=0.0),
    "mobileclip2-s3": _vision("fastvit_mci3", 64, "avg", None),
    "gap": _vision("vit_medium_patch16_gap_256", 32, "", "linear"),
    "relpos": _vision("vit_relpos_medium_patch16_cls_224", 32, "", "linear"),
    "pe-core": _vision("vit_pe_core_tiny_patch16_384", 32, "map", None),
    "eva02": _vision("eva02_base_patch16_clip_224", 32, "token", None),
    "eva01": _vision("eva_giant_patch14_224", 28, "token", None),
    "convnext": _vision("convnext_tiny", 64, "", "linear", **_DROPS),
    "convnext-mlp": _vision("convnext_tiny", 64, "", "mlp", **_DROPS),
    "vitamin": _vision("vitamin_small_224", 32, "", "linear", timm_drop_path=0.1),
    "swin": _vision("swin_base_patch4_window7_224", 32, "", "linear"),
    "resnet": _vision("resnet26d", 64, "avg", "linear"),
    "absolute-attention": _vision("resnet26d", 224, "abs_attn", None),
    "rotary-attention": _vision("resnet26d", 64, "rot_attn", "linear"),
}
TIMM_KINDS = ["numbers", "intermediates", "locks", "sizes", "precisions"]
POOLERS = ("mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
HF = {
    f"{kind}-{pooler}-{proj}": (kind, pooler, proj, width)
    for kind in ENCODERS
    for pooler in POOLERS
    for proj, width in (("mlp", 64), ("linear", 64), (None, 32))
}
# Upstream's largest-value pooler fails: its mask is of whole numbers.
HF_ALIKE = [name for name, (_, pooler, _, _) in HF.items() if pooler != "max_pooler"]


def _both(folder, cases, timm, extras=()):
    request = {"folder": str(folder / "configs"), "timm": timm, "cases": cases}
    answers = []
    for side in (SOURCES, None):
        place = folder / ("theirs" if side is None else "ours")
        place.mkdir()
        answers.append(peer.run_peer("encoders", request, place, instead_of_peer=side, extras=extras))
    return answers


@pytest.fixture(scope="module")
def timm_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timm")
    (folder / "configs").mkdir()
    for name, config in TIMM.items():
        write_config(folder / "configs", name, config)
    return _both(folder, [{"label": name, "name": name, "kinds": TIMM_KINDS} for name in TIMM], timm=True)


@pytest.fixture(scope="module")
def hf_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    (folder / "configs").mkdir()
    paths = {kind: write_encoder(folder, kind) for kind in ENCODERS}
    cases = []
    for name, (kind, pooler, proj, width) in HF.items():
        text = {"hf_model_name": paths[kind], "hf_pooler_type": pooler, "hf_proj_type": proj}
        write_config(folder / "configs", name, tiny_config(quick_gelu=True, embed_dim=width) | {"text_cfg": text})
        kinds = ["numbers", "locks", "precisions"] if proj == "mlp" else ["numbers"]
        cases.append({"label": name, "name": name, "kinds": kinds})
    return _both(folder, cases, timm=False, extras=extras_folders())


def _of(answers, name):
    return [{k.partition(":")[2]: v for k, v in side.items() if k.partition(":")[0] == name} for side in answers]


def _assert_same_names(ours, theirs, prefix):
    keys = [key for key in theirs if key.startswith(prefix)]
    assert keys
    for key in keys:
        assert list(ours[key]) == list(theirs[key]), key


def _assert_same_numbers(ours, theirs):
    """Compare first weights to the bit, features to 1e-5, gradients to 5e-6 of each tensor's largest value."""
    for key in ("first", "parameters", "no_decay"):
        assert list(ours[key]) == list(theirs[key])
    assert ours["sizes"] == theirs["sizes"]
    for mode in ("eval", "train", "recomputed"):
        for key in (f"{mode}/image", f"{mode}/text"):
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5, rtol=0, err_msg=key)
        gradients = {key for key in theirs if key.startswith(f"{mode}/gradient/")}
        assert gradients == {key for key in ours if key.startswith(f"{mode}/gradient/")}
        for key in gradients:
            # What is noise around nought has no size of its own to be measured by.
            assert np.abs(ours[key] - theirs[key]).max() <= 5e-6 * np.abs(theirs[key]).max() + 2e-7, key
    for key in theirs:
        if key.startswith("trained/"):
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5, rtol=1e-5, err_msg=key)


class TestTimm:
    pytestmark = [*peer.needs_peer, pytest.mark.towers]

    @pytest.mark.parametrize("name", TIMM)
    def test_weights_features_and_gradients_are_those_of_upstream(self, timm_answers, name):
        _assert_same_numbers(*_of(timm_answers, name))

    @pytest.mark.parametrize("name", TIMM)
    def test_intermediates_and_sizes_are_those_of_upstream_or_both_refuse(self, timm_answers, name):
        ours, theirs = _of(timm_answers, name)
        label = ("intermediates/", "forced/", "resized/", "patch-dropout")
        keys = {key for key in theirs if key.removeprefix("failed/").startswith(label)}
        assert keys == {key for key in ours if key.removeprefix("failed/").startswith(label)}
        for key in keys:
            if key.startswith("failed/"):
                assert str(ours[key]).startswith("ConfigError"), key
            else:
                np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5, rtol=0, err_msg=key)

    @pytest.mark.parametrize("name", TIMM)
    def test_locks_freeze_the_parameters_that_upstream_freezes(self, timm_answers, name):
        ours, theirs = _of(timm_answers, name)
        if name == "mobileclip-b":
            # Upstream's frozen batch norms lose their activations, and more groups than there are freeze all of them.
            theirs = {key: value for key, value in theirs.items() if not key.endswith("True")}
        _assert_same_names(ours, theirs, "trainable/")
        _assert_same_names(ours, theirs, "entries/")
        for key in theirs:
            if key.startswith("locked/"):
                np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5, rtol=0, err_msg=key)

    @pytest.mark.parametrize("name", TIMM)
    def test_precisions_cast_what_upstream_casts(self, timm_answers, name):
        ours, theirs = _of(timm_answers, name)
        _assert_same_names(ours, theirs, "types/")
        assert {key for key in ours if key.startswith("half/")} >= {key for key in theirs if key.startswith("half/")}


class TestHuggingFace:
    pytestmark = [*peer.needs_peer, *needs_hf]

    @pytest.mark.parametrize("name", HF_ALIKE)
    def test_weights_features_and_gradients_are_those_of_upstream(self, hf_answers, name):
        _assert_same_numbers(*_of(hf_answers, name))

    @pytest.mark.parametrize("name", [name for name in HF_ALIKE if name.endswith("mlp")])
    def test_locks_freeze_the_parameters_that_upstream_freezes(self, hf_answers, name):
        ours, theirs = _of(hf_answers, name)
        _assert_same_names(ours, theirs, "trainable/")
        # Upstream cannot find the layers of BERT and M2M-100, so it refuses to leave some of them unlocked.
        assert all(f"trainable/text/{unlocked}/False" in ours for unlocked in range(5))

    @pytest.mark.parametrize("name", [name for name in HF if name.endswith("mlp")])
    def test_precisions_cast_what_upstream_casts_and_run(self, hf_answers, name):
        ours, theirs = _of(hf_answers, name)
        _assert_same_names(ours, theirs, "types/")
        for precision in ("fp16", "bf16", "pure_fp16", "pure_bf16"):
            assert np.isfinite(ours[f"half/{precision}/text"]).all(), precision
