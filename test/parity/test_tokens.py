"""Token ids equal those of open_clip_torch 3.3.0, for text that was written to break tokenizers."""

import json
import random
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from hostile_text import hostile_captions
from open_clip.tokenizer import SimpleTokenizer
from peer import needs_peer, run_peer

pytestmark = needs_peer


def _request(name, texts, context_length=77, seed=0, decode=False, **options):
    return {
        "name": name,
        "texts": texts,
        "context_length": context_length,
        "seed": seed,
        "decode": decode,
        "options": options,
    }


def _drawn_captions(count=1500):
    """Captions as hypothesis draws them: any characters, and whole words, entities, specials and spaces mixed in."""
    parts = st.sampled_from(
        ["<start_of_text>", "<end_of_text>", "</w>", "&lt;", "&amp;amp;", "&#x202e;", "Ã©", "'S", "it's", "don’t", "_"]
        + [
            "\u202eשלום\u202c",
            "مرحبا",
            "👩‍👩‍👧",
            "🏳️‍🌈",
            "e\u0301",
            "\ufeff",
            "\x00",
            "\x1b",
            "\u2028",
            "   ",
            "",
            "½",
            "１２",
        ]
    )
    words = st.one_of(parts, st.text(max_size=12), st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=12))
    captions = st.one_of(
        st.lists(words, max_size=40).map(" ".join), st.lists(words, max_size=40).map("".join), st.text()
    )
    drawn = []

    @seed(9)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate])
    @given(captions)
    def collect(caption):
        drawn.append(caption)

    collect()
    return drawn


@cache
def _requests():
    few = hostile_captions(2000, seed=1)
    drawn = _drawn_captions()
    return [
        *(_request(f"drawn_{clean}", drawn, clean=clean) for clean in ("lower", "whitespace", "canonicalize")),
        *(
            _request(f"drawn_{clean}_{mask}", drawn, 9, seed=6, clean=clean, reduction_mask=mask)
            for clean in ("lower", "whitespace", "canonicalize")
            for mask in ("simple", "random", "shuffle")
        ),
        _request("lower", hostile_captions(32_000)),
        _request("decode", few, decode=True),
        _request("whitespace", few, clean="whitespace"),
        _request("canonicalize", few, clean="canonicalize"),
        _request("short", few, context_length=5),
        _request("one", few[:100], context_length=1),
        _request("long", few, context_length=248),
        _request("specials", few, additional_special_tokens=["<mask>", "cats"]),
        _request("spaced_special", few, additional_special_tokens=["the photo"]),
        _request("simple", few, context_length=12, seed=3, reduction_mask="simple"),
        _request("random", few, context_length=12, seed=4, reduction_mask="random"),
        _request("shuffle", few, context_length=12, seed=5, reduction_mask="shuffle"),
        _request("very_long_words", ["a" * 2000, "ab" * 900, "日本" * 300, "hahaha" * 200], context_length=2048),
    ]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return run_peer("tokens", _requests(), tmp_path_factory.mktemp("tokens"))


@pytest.mark.parametrize("request_", _requests(), ids=lambda request: request["name"])
def test_ids_equal_the_peers(request_, answers):
    random.seed(request_["seed"])
    torch.manual_seed(request_["seed"])
    tokenizer = SimpleTokenizer(**request_["options"])
    ours = tokenizer(request_["texts"], request_["context_length"]).numpy()
    theirs = answers[request_["name"]]
    assert ours.shape == theirs.shape
    wrong = np.flatnonzero((ours != theirs).any(axis=1))
    assert not len(wrong), f"{len(wrong)} differ, first {request_['texts'][wrong[0]]!r}"


def test_decoded_text_equals_the_peers(answers):
    tokenizer = SimpleTokenizer()
    theirs = json.loads(answers["decode_text"].tobytes())
    assert [tokenizer.decode(row) for row in answers["decode"]] == theirs
