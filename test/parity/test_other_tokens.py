"""Token ids of Hugging Face and SigLIP tokenizers equal those of open_clip_torch 3.3.0, for hostile text."""

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import open_clip
import open_clip.tokenizer
from extras import extras_folders, needs_hf
from hostile_text import hostile_captions
from open_clip.tokenizer import SigLipTokenizer
from peer import needs_peer, run_peer
from tiny_models import tiny_config
from tiny_tokenizers import SENTENCEPIECES, TOKENIZERS, write_sentencepiece

pytestmark = [*needs_peer, *needs_hf]

TEXTS = hostile_captions(2000, seed=11)
SPECIALS = {"bos_token": "[unused1]", "eos_token": "[unused2]"}


def _request(name, kind="HFTokenizer", context_length=None, texts=TEXTS, **options):
    return {"name": name, "kind": kind, "texts": texts, "context_length": context_length, "options": options}


def _compare(requests, folder):
    answers = run_peer("other_tokens", requests, folder, extras=extras_folders())
    for request in requests:
        kind = request["kind"]
        make = open_clip.get_tokenizer if kind == "get_tokenizer" else getattr(open_clip.tokenizer, kind)
        ours = make(**request["options"])(request["texts"], request["context_length"]).numpy()
        theirs = answers[request["name"]]
        assert ours.shape == theirs.shape, request["name"]
        wrong = np.flatnonzero((ours != theirs).any(axis=1))
        assert not len(wrong), f"{request['name']}: {len(wrong)} differ, first {request['texts'][wrong[0]]!r}"


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_ids_of_a_tokenizer_folder_equal_the_peers(kind, tmp_path):
    path = TOKENIZERS[kind](tmp_path)
    requests = [_request(clean, tokenizer_name=path, clean=clean) for clean in ("whitespace", "lower", "canonicalize")]
    requests += [_request(f"length_{n}", context_length=n, tokenizer_name=path) for n in (2, 3, 12, 248)]
    requests += [
        _request("strip", tokenizer_name=path, context_length=20, strip_sep_token=True),
        _request("left", tokenizer_name=path, context_length=20, padding_side="left", truncation_side="left"),
        _request("own_length", tokenizer_name=path, texts=TEXTS[:50]),
        _request("one", tokenizer_name=path, texts=TEXTS[7:8]),
    ]
    clips = {"tokenizer_mode": "clips", "tokenizer_name": path} | (SPECIALS if kind == "wordpiece" else {})
    requests += [_request(f"clips_{n}", context_length=n, **clips) for n in (1, 2, 3, 4, 12, 77)]
    _compare(requests, tmp_path)


@pytest.mark.skipif(
    find_spec("transformers") is not None and version("transformers") >= "5",
    reason="the SigLipTokenizer of open_clip_torch 3.3.0 cannot be made with transformers 5",
)
@pytest.mark.parametrize("kind", SENTENCEPIECES)
def test_ids_of_a_sentencepiece_model_equal_the_peers(kind, tmp_path):
    path = write_sentencepiece(tmp_path, kind)
    texts = hostile_captions(8000, seed=12)
    requests = [_request("own_length", "SigLipTokenizer", texts=texts, tokenizer_name=path)]
    requests += [_request(f"length_{n}", "SigLipTokenizer", n, tokenizer_name=path) for n in (1, 2, 8, 200)]
    _compare(requests, tmp_path)


@pytest.mark.parametrize("kind", SENTENCEPIECES)
def test_the_peer_makes_our_ids_from_a_saved_siglip_tokenizer(kind, tmp_path):
    ours = SigLipTokenizer(write_sentencepiece(tmp_path, kind))
    ours.save_pretrained(tmp_path / "saved")
    options = {"tokenizer_name": str(tmp_path / "saved"), "context_length": 64, "clean": "canonicalize"}
    theirs = run_peer("other_tokens", [_request("saved", **options)], tmp_path, extras=extras_folders())["saved"]
    np.testing.assert_array_equal(ours(TEXTS).numpy(), theirs)


def _model_folder(path, text_cfg):
    config = {"model_cfg": tiny_config(None, text_cfg | {"hf_tokenizer_name": "org/elsewhere"})}
    (Path(path) / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{path}"


def test_a_model_folder_gets_the_tokenizer_that_the_peer_gives_it(tmp_path):
    strip = {"context_length": 21, "tokenizer_kwargs": {"strip_sep_token": True}}
    folder = _model_folder(TOKENIZERS["wordpiece"](tmp_path), strip)
    clips = _model_folder(TOKENIZERS["bpe"](tmp_path), {"tokenizer_mode": "clips"})
    _compare(
        [
            _request("config", "get_tokenizer", model_name=folder),
            _request("length", "get_tokenizer", model_name=folder, context_length=9),
            _request("keywords", "get_tokenizer", model_name=folder, strip_sep_token=False, clean="lower"),
            _request("clips", "get_tokenizer", model_name=clips),
        ],
        tmp_path,
    )
