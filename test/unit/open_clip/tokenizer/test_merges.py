import itertools
import random

import pytest

from open_clip.tokenizer import SimpleTokenizer
from open_clip.tokenizer.merges import merge_start, merge_symbols


def _merge_round_by_round(symbols, ranks):
    """The definition: merge the pair of lowest rank everywhere from the left, then look again."""
    symbols = list(symbols)
    while True:
        known = [pair for pair in itertools.pairwise(symbols) if pair in ranks]
        if not known:
            return symbols
        best = min(known, key=ranks.__getitem__)
        merged = []
        while symbols:
            take = 2 if tuple(symbols[:2]) == best else 1
            merged.append("".join(symbols[:take]))
            symbols = symbols[take:]
        symbols = merged


@pytest.mark.parametrize(
    "symbols, merges, result",
    [
        ("abc", [("b", "c"), ("a", "bc")], ["abc"]),
        ("abc", [("a", "b"), ("b", "c")], ["ab", "c"]),
        ("aaa", [("a", "a")], ["aa", "a"]),
        ("aaaa", [("a", "a"), ("aa", "aa")], ["aaaa"]),
        ("xyz", [], ["x", "y", "z"]),
        ("x", [("x", "y")], ["x"]),
    ],
)
def test_pairs_merge_by_rank_and_from_the_left(symbols, merges, result):
    assert merge_symbols(list(symbols), {pair: rank for rank, pair in enumerate(merges)}) == result


@pytest.mark.parametrize("num_words, least, most", [(3000, 1, 25), (300, 40, 60)], ids=["short", "long"])
def test_result_is_that_of_the_definition_even_for_merges_in_disorder(num_words, least, most):
    rng = random.Random(0)
    pieces = ["a", "b", "c", "ab", "ba", "aa", "bc", "abc", "aba", "caa"]
    for _ in range(num_words):
        pairs = list(itertools.product(pieces, repeat=2))
        ranks = {pair: rank for rank, pair in enumerate(rng.sample(pairs, rng.randint(0, 25)))}
        symbols = rng.choices("abc", k=rng.randint(least, most))
        assert merge_symbols(symbols, ranks) == _merge_round_by_round(symbols, ranks)


def test_the_callers_list_is_left_alone():
    symbols = ["a", "b"]
    merge_symbols(symbols, {("a", "b"): 0})
    assert symbols == ["a", "b"]


def _long_words(rng):
    alphabets = ["abcdefghijklmnopqrstuvwxyz", "a", "ab", "ha", "et", "the", "!?.", "日本語中文", "éèü"]
    for _ in range(400):
        part = "".join(rng.choices(rng.choice(alphabets), k=rng.choice([1, 2, 3, 7, 300])))
        yield part * (600 // len(part))


def test_the_start_of_a_word_has_the_pieces_of_the_whole_word():
    tokenizer, rng = SimpleTokenizer(), random.Random(1)
    longest = max(map(len, tokenizer.encoder))
    lost = []
    for word in _long_words(rng):
        symbols = "".join(map(tokenizer.byte_encoder.__getitem__, word.encode()))
        whole = merge_symbols([*symbols[:-1], symbols[-1] + "</w>"], tokenizer.bpe_ranks)
        for _ in range(3):
            size = rng.randint(1, len(symbols) - longest)
            pieces = merge_start(symbols[: size + longest], size, tokenizer.bpe_ranks)
            assert pieces == whole[: len(pieces)], (word, size)
            lost.append(size - len("".join(pieces)))
    assert max(lost) < longest


def test_the_start_of_a_word_is_right_for_merges_in_disorder():
    rng = random.Random(2)
    pieces = ["a", "b", "c", "ab", "ba", "aa", "bc", "abc", "aba", "caa"]
    for _ in range(3000):
        pairs = list(itertools.product(pieces, repeat=2))
        ranks = {pair: rank for rank, pair in enumerate(rng.sample(pairs, rng.randint(1, 25)))}
        longest = max(len("".join(pair)) for pair in ranks)
        word = "".join(rng.choices("abc", k=rng.randint(longest + 1, 60)))
        size = rng.randint(1, len(word) - longest)
        start = merge_start(word[: size + longest], size, ranks)
        assert start == _merge_round_by_round(word, ranks)[: len(start)]
