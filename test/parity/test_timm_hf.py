"""Models with timm and Hugging Face towers have upstream's parameters: names, order and shapes."""

import importlib.util
import json

import pytest

import open_clip
import peer
from extras import extras_folders, needs_hf, needs_timm
from tiny_encoders import ENCODERS, write_encoder
from tiny_models import tiny_config, write_config


def _is_timm(name):
    config = open_clip.get_model_config(name)
    return "timm_model_name" in config["vision_cfg"] and "hf_model_name" not in config["text_cfg"]


TIMM_MODELS = [name for name in open_clip.list_models() if _is_timm(name)]


def _decode(answers):
    return {name: json.loads(text.tobytes()) for name, text in answers.items()}


@pytest.fixture(scope="module")
def shapes():
    """The function that the peer runs, to be run with our package too."""
    spec = importlib.util.spec_from_file_location("family_shapes", peer.SCRIPTS / "family_shapes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shapes


class TestTimm:
    pytestmark = [*peer.needs_peer, *needs_timm]

    @pytest.fixture(scope="class")
    def theirs(self, tmp_path_factory):
        return _decode(peer.run_peer("family_shapes", {"names": TIMM_MODELS}, tmp_path_factory.mktemp("timm")))

    @pytest.mark.parametrize("name", TIMM_MODELS)
    def test_a_timm_model_has_the_parameters_of_upstream(self, theirs, shapes, name):
        ours = shapes(name, {})
        assert ours == theirs[name]
        assert list(ours["entries"]) == list(theirs[name]["entries"])


class TestHuggingFace:
    pytestmark = [*peer.needs_peer, *needs_hf]

    @pytest.mark.parametrize("kind", ENCODERS)
    @pytest.mark.parametrize("pooler", ["mean_pooler", "cls_pooler"])
    def test_a_text_tower_has_the_parameters_of_upstream(self, shapes, tmp_path, kind, pooler):
        text = {"hf_model_name": write_encoder(tmp_path, kind), "hf_pooler_type": pooler, "hf_proj_type": "mlp"}
        configs = tmp_path / "configs"
        configs.mkdir()
        write_config(configs, "tiny-hf", tiny_config() | {"text_cfg": text})
        open_clip.add_model_config(configs)
        request = {"names": ["tiny-hf"], "folder": str(configs)}
        theirs = _decode(peer.run_peer("family_shapes", request, tmp_path, extras=extras_folders()))
        assert shapes("tiny-hf", {}) == theirs["tiny-hf"]
