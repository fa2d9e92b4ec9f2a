"""What upstream publishes: tags, class names, templates, and the classifier made of them."""

import json

import pytest
import torch
from torch.testing import assert_close

import open_clip
from open_clip.push_to_hf_hub import save_for_hf
from peer import needs_peer, run_peer
from tiny_models import tiny_config, write_config

pytestmark = needs_peer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with the full vocabulary, saved as a folder that either side reads."""
    path = tmp_path_factory.mktemp("model")
    open_clip.add_model_config(write_config(path, "tiny-published", tiny_config(None, {"vocab_size": 49408})))
    torch.manual_seed(1)
    model = open_clip.create_model("tiny-published")
    tokenizer = open_clip.get_tokenizer("tiny-published")
    save_for_hf(model, tokenizer, open_clip.get_model_config("tiny-published"), path / "model")
    return path / "model"


@pytest.fixture(scope="module")
def peer_answer(folder, tmp_path_factory):
    return run_peer("published", {"folder": str(folder)}, tmp_path_factory.mktemp("peer"))


def test_the_tables_are_equal(peer_answer):
    table = json.loads(str(peer_answer["table"]))
    tags = {f"{m}:{t}": open_clip.get_pretrained_cfg(m, t) for m, t in open_clip.list_pretrained()}
    assert json.loads(json.dumps(tags)) == table["tags"]
    assert list(tags) == list(table["tags"])
    assert list(open_clip.IMAGENET_CLASSNAMES) == table["classnames"]
    templates = (*open_clip.OPENAI_IMAGENET_TEMPLATES, *open_clip.SIMPLE_IMAGENET_TEMPLATES)
    assert [template("x") for template in templates] == table["templates"]


def test_the_classifiers_are_equal(folder, peer_answer):
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    classifier = open_clip.build_zero_shot_classifier(
        model,
        open_clip.get_tokenizer("ViT-B-32", context_length=16),
        open_clip.IMAGENET_CLASSNAMES[:25],
        open_clip.OPENAI_IMAGENET_TEMPLATES[:9],
    )
    assert_close(classifier, torch.from_numpy(peer_answer["classifier"]), atol=1e-6, rtol=0)
