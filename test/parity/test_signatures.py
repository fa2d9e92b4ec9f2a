"""Calls written for upstream work here: same parameter names in the same order, same defaults."""

import json
from pathlib import Path

import pytest

import open_clip
import peer

pytestmark = peer.needs_peer

SOURCES = Path(open_clip.__file__).resolve().parents[1]
MODULES = [
    "open_clip",
    "open_clip.factory",
    "open_clip.model",
    "open_clip.transformer",
    "open_clip.modified_resnet",
    "open_clip.timm_model",
    "open_clip.hf_model",
    "open_clip.coca_model",
    "open_clip.loss",
    "open_clip.tokenizer",
    "open_clip.transform",
    "open_clip.pretrained",
    "open_clip.openai",
    "open_clip.utils",
    "open_clip.pos_embed",
    "open_clip.zero_shot_classifier",
    "open_clip.push_to_hf_hub",
    "open_clip.convert",
    "open_clip_train.data",
    "open_clip_train.distributed",
    "open_clip_train.file_utils",
    "open_clip_train.logger",
    "open_clip_train.main",
    "open_clip_train.params",
    "open_clip_train.precision",
    "open_clip_train.scheduler",
    "open_clip_train.train",
    "open_clip_train.zero_shot",
]

# What differs on purpose, by the end of its name, and why.
INTENDED = {
    "SimpleTokenizer": "bpe_path None stands for the shipped file, wherever it is installed",
    "center_crop_or_pad": "the image is spelt out, image for img",
    "Pooler.forward": "the encoder's output is called output, not x",
    "CoCa.forward": "an image may be left out when its features are given",
    "SigLipLoss.forward": "a model without a bias may leave it out",
    "TextTransformer.forward_intermediates": "the default is NLC, the only form texts have; upstream's names another",
    "gather_features": "Horovod is gone",
    "Block": "batch_first is gone: the batch always comes first",
    "Block.forward": "both kinds of block take the same arguments",
    "Transformer": "the switches of the custom block are collected as keywords under the same names",
    "Transformer.forward_intermediates": "the caption decoder passes what it is given on",
    "broadcast_object": "the trainer's own: who speaks for all stands in the world it is given",
    "init_distributed_device_so": "the default is the best device of the machine, whatever its make",
    "get_autocast": "likewise",
    "main.main": "without words the program's own are read",
    "parse_args": "likewise",
}


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    def ask(label, folder=None):
        found = peer.run_peer("signatures", {"modules": MODULES}, tmp_path_factory.mktemp(label), folder)
        return json.loads(found["signatures"].tobytes())

    return ask("ours", SOURCES), ask("theirs")


def test_parameters_and_defaults_are_upstreams_but_where_a_reason_is_given(signatures):
    ours, theirs = signatures
    different = {}
    for name in ours.keys() & theirs.keys():
        # What follows upstream's own parameters disturbs no call written for it.
        if ours[name][: len(theirs[name])] != theirs[name]:
            different[name] = (theirs[name], ours[name])
    unexplained = {name: both for name, both in different.items() if not name.endswith(tuple(INTENDED))}
    assert not unexplained
    assert len(ours.keys() & theirs.keys()) > 250


def test_every_reason_given_is_still_needed(signatures):
    ours, theirs = signatures
    different = [name for name in ours.keys() & theirs.keys() if ours[name][: len(theirs[name])] != theirs[name]]
    assert not [end for end in INTENDED if not any(name.endswith(end) for name in different)]


def test_every_name_of_the_package_itself_is_offered(signatures):
    ours, theirs = signatures
    missing = [name for name in theirs if name.count(".") == 1 and name not in ours]
    # A module of the same name here, which can be called as the function.
    assert [name for name in missing if name != "open_clip.push_to_hf_hub"] == []
