"""Files in OpenAI's layout, ViT and ResNet, give the models and features that upstream makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import open_clip
import peer
from tiny_models import tiny_clip

pytestmark = peer.needs_peer

SOURCES = Path(open_clip.__file__).resolve().parents[1]
TOWERS = {
    "vit": {"width": 128, "head_width": 64},
    "resnet": {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64, "image_size": 64},
}
KEYS = ("image", "text", "kinds", "size", "training")
SIZES = {"input_resolution": 32, "context_length": 16, "vocab_size": 600}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai")
    files = {}
    for label, vision in TOWERS.items():
        model = tiny_clip(seed=3, vision=vision, text={"width": 128, "heads": 2})
        # As OpenAI's own files are; upstream rounds what is not.
        open_clip.convert_weights_to_fp16(model)
        files[label] = str(folder / f"{label}.pt")
        torch.save(model.state_dict() | {key: torch.tensor(value) for key, value in SIZES.items()}, files[label])
    request = {"files": files}
    theirs = peer.run_peer("openai_files", request, tmp_path_factory.mktemp("theirs"))
    return peer.run_peer("openai_files", request, tmp_path_factory.mktemp("ours"), SOURCES), theirs


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("label", TOWERS)
def test_a_file_of_openais_layout_gives_upstreams_model(answers, label, precision):
    ours, theirs = ({key: found[f"{label}-{precision}/{key}"] for key in KEYS} for found in answers)
    for key in ("kinds", "size", "training"):
        assert ours[key].tolist() == theirs[key].tolist(), key
    # Half precision rounds to 3 digits, at other places in other kernels; features are about one.
    tolerance = 5e-6 if precision == "fp32" else 5e-2
    np.testing.assert_allclose(ours["image"], theirs["image"], atol=tolerance)
    np.testing.assert_allclose(ours["text"], theirs["text"], atol=tolerance)


def test_the_same_models_are_listed(answers):
    ours, theirs = answers
    assert ours["names"].tolist() == theirs["names"].tolist()
