"""Every model by name against upstream's: class, sizes, and the names, shapes and order of all weights."""

import json
from pathlib import Path

import pytest

import open_clip
import peer

pytestmark = peer.needs_peer

SOURCES = Path(open_clip.__file__).resolve().parents[1]
# Sizes of our own, for a first run on a small machine; upstream has no models of these names.
OURS_ALONE = {"ViT-micro-8-32", "ViT-tiny-16-64"}


def _needs_network(name):
    """Tell whether a Hugging Face encoder's own configuration would have to be fetched first."""
    return "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]


# Families of our own say their name; upstream has none of them either.
SHARED = [name for name in open_clip.list_models() if "family" not in open_clip.get_model_config(name)]
NAMES = [name for name in SHARED if name not in OURS_ALONE and not _needs_network(name)]


def _read(answers):
    return {name: json.loads(text.tobytes()) for name, text in answers.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return _read(peer.run_peer("architectures", {"names": NAMES}, tmp_path_factory.mktemp("theirs")))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    # timm lies beside the peer and not beside us, so our models are built there too.
    folder = tmp_path_factory.mktemp("ours")
    return _read(peer.run_peer("architectures", {"names": NAMES}, folder, instead_of_peer=SOURCES))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_made_of_what_upstream_makes_it_of(theirs, ours, name):
    for key in ("class", "tower", "image_size", "context_length", "config"):
        assert ours[name][key] == theirs[name][key], key
    assert ours[name]["parameters"] == theirs[name]["parameters"]
    assert ours[name]["state"] == theirs[name]["state"]
