import random
import sys
from types import SimpleNamespace

import pytest
import torch

from open_clip.errors import ConfigError, MissingDependency
from open_clip.tokenizer import (
    SimpleTokenizer,
    get_reduction_mask_fn,
    random_mask_tokenize,
    simple_mask_tokenize,
    syntax_mask_tokenize,
)

SOT, EOT = 900, 901
LENGTHS = {"context_length": 7, "sot_token_id": SOT, "eot_token_id": EOT}


def _encode(text):
    return [int(word) for word in text.split()]


LONG = " ".join(str(number) for number in range(1, 21))


@pytest.mark.parametrize("name", ["simple", "random", "shuffle"])
def test_a_caption_that_fits_is_left_alone(name):
    rows = get_reduction_mask_fn(name)(["1 2 3", "", "1 2 3 4 5"], **LENGTHS, encode_fn=_encode)
    assert rows.tolist() == [[SOT, 1, 2, 3, EOT, 0, 0], [SOT, EOT, 0, 0, 0, 0, 0], [SOT, 1, 2, 3, 4, 5, EOT]]


def test_simple_keeps_one_block():
    random.seed(0)
    seen = set()
    for _ in range(200):
        row = simple_mask_tokenize([LONG], **LENGTHS, encode_fn=_encode)[0].tolist()
        assert row[0] == SOT
        assert row[-1] == EOT
        assert row[1:-1] == list(range(row[1], row[1] + 5))
        seen.add(row[1])
    assert seen == set(range(1, 17))


def test_random_keeps_a_subset_in_order():
    torch.manual_seed(0)
    rows = random_mask_tokenize([LONG] * 50, **LENGTHS, encode_fn=_encode)
    body = rows[:, 1:-1]
    assert (body[:, 1:] > body[:, :-1]).all()
    assert len({tuple(row.tolist()) for row in body}) > 40


def test_shuffle_keeps_a_subset_in_any_order():
    torch.manual_seed(0)
    body = random_mask_tokenize([LONG] * 50, **LENGTHS, encode_fn=_encode, shuffle=True)[:, 1:-1]
    assert (body[:, 1:] < body[:, :-1]).any()
    assert all(len(set(row.tolist())) == 5 for row in body)


@pytest.fixture
def small_nltk(monkeypatch):
    """A tagger of five words in the place of nltk, which needs a download to run."""
    tags = {"dog": "NN", "cats": "NNS", "red": "JJ", "runs": "VBZ", "the": "DT"}
    stand_in = SimpleNamespace(
        tokenize=SimpleNamespace(word_tokenize=str.split), pos_tag=lambda words: [(word, tags[word]) for word in words]
    )
    monkeypatch.setitem(sys.modules, "nltk", stand_in)


def test_syntax_keeps_nouns_then_adjectives_then_verbs_in_their_order(small_nltk):
    words = ["the", "red", "dog", "the", "runs", "the", "cats", "the"]
    numbers = {"the": 1, "red": 2, "dog": 3, "runs": 4, "cats": 5}

    def keep(num_words):
        lengths = {**LENGTHS, "context_length": num_words + 2}
        rows = syntax_mask_tokenize(
            [" ".join(words)], **lengths, encode_fn=lambda text: [numbers[w] for w in text.split()]
        )
        return rows[0, 1:-1].tolist()

    assert keep(2) == [3, 5]
    assert keep(3) == [2, 3, 5]
    assert keep(4) == [2, 3, 4, 5]
    assert keep(5) == [1, 2, 3, 4, 5]


def test_syntax_cuts_when_the_kept_words_give_too_many_tokens(small_nltk):
    rows = syntax_mask_tokenize(["dog " * 5], **LENGTHS, encode_fn=lambda text: [1, 2] * len(text.split()))
    assert rows.tolist() == [[SOT, 1, 2, 1, 2, 1, EOT]]


def test_syntax_without_nltk_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(MissingDependency, match="pip install nltk"):
        SimpleTokenizer(reduction_mask="syntax")("a dog")


def test_syntax_without_its_data_says_how_to_get_it(monkeypatch):
    def look_up(text):
        raise LookupError("punkt")

    monkeypatch.setitem(sys.modules, "nltk", SimpleNamespace(tokenize=SimpleNamespace(word_tokenize=look_up)))
    with pytest.raises(MissingDependency, match="nltk.downloader"):
        SimpleTokenizer(reduction_mask="syntax")("a dog")


def test_an_unknown_way_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean shuffle"):
        get_reduction_mask_fn("shuff")
