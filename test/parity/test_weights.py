"""Weights go both ways between us and upstream, in every layout, resized or not."""

import importlib.util

import numpy as np
import pytest
import torch

import open_clip
import peer
from open_clip.checkpoint import write_safetensors
from tiny_models import tiny_config, write_config

pytestmark = peer.needs_peer

_RESIZED = {"force_image_size": 48, "force_context_length": 24}
_OPTIONS = {
    "same": {},
    "custom": {"force_custom_text": True},
    "resized": _RESIZED,
    "shorter": {"force_image_size": [24, 40]},
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("weights_script", peer.SCRIPTS / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "configs").mkdir()
    write_config(folder / "configs", "exchange", tiny_config())
    open_clip.add_model_config(folder / "configs")
    return folder


@pytest.fixture(scope="module")
def layouts(folder):
    return {name: str(folder / f"{name}.pt") for name in ("plain", "trainer", "openai", "script")}


@pytest.fixture(scope="module")
def theirs(folder, layouts):
    read = {
        label: {"name": "exchange", "path": layouts["plain"], "options": options} for label, options in _OPTIONS.items()
    }
    request = {"folder": str(folder / "configs"), "name": "exchange", "write": layouts, "read": read}
    return peer.run_peer("weights", request, folder)


@pytest.mark.parametrize("layout", ["plain", "trainer", "openai", "script"])
def test_we_read_what_upstream_wrote(theirs, layouts, script, layout):
    model = open_clip.create_model("exchange", pretrained=layouts[layout])
    np.testing.assert_allclose(script.features(model), theirs["written"], atol=1e-6)


@pytest.mark.parametrize("label", _OPTIONS)
def test_resized_and_custom_text_models_load_as_upstream_loads_them(theirs, layouts, script, label):
    model = open_clip.create_model("exchange", pretrained=layouts["plain"], **_OPTIONS[label])
    np.testing.assert_allclose(script.features(model), theirs[label], atol=1e-6)


def test_upstream_reads_what_we_write(folder, script):
    torch.manual_seed(12)
    model = open_clip.create_model("exchange")
    safe, plain = folder / "ours.safetensors", folder / "ours.pt"
    write_safetensors(model.state_dict(), safe)
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, plain)
    read = {path.suffix: {"name": "exchange", "path": str(path), "options": {}} for path in (safe, plain)}
    (folder / "back").mkdir()
    answers = peer.run_peer("weights", {"folder": str(folder / "configs"), "read": read}, folder / "back")
    for path in (safe, plain):
        np.testing.assert_allclose(script.features(model), answers[path.suffix], atol=1e-6)
