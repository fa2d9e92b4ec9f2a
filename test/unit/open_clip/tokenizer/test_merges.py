import itertools
import random

import pytest

from open_clip.tokenizer.merges import merge_symbols


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
