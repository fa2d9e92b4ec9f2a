"""Apply byte-pair merges to one word.

Knows no vocabulary, no ids and no text cleaning.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise

MergeRanks = Mapping[tuple[str, str], int]


def get_pairs(word: Sequence[str]) -> set[tuple[str, str]]:
    """Return the pairs of neighbouring symbols of a word."""
    return set(pairwise(word))


def merge_symbols(symbols: list[str], ranks: MergeRanks) -> list[str]:
    """Merge neighbours, lowest rank first and left to right within a rank, until no pair has a rank.

    The cost grows as n log n with the number of symbols, so a hostile word of many thousand characters stays cheap.

    Source: `SimpleTokenizer.bpe` of OpenAI CLIP, whose cost grows as n squared.
    """
    symbols = list(symbols)
    end = len(symbols)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    queue = [(ranks[pair], i) for i, pair in enumerate(zip(symbols, symbols[1:], strict=False)) if pair in ranks]
    heapq.heapify(queue)

    def enqueue(left: int) -> None:
        rank = ranks.get((symbols[left], symbols[following[left]]))
        if rank is not None:
            heapq.heappush(queue, (rank, left))

    while queue:
        rank = queue[0][0]
        # A merge may give rise to a pair of lower rank: the rest of this rank still goes first.
        places = []
        while queue and queue[0][0] == rank:
            places.append(heapq.heappop(queue)[1])
        for left in places:
            right = following[left]
            if right == end or not symbols[left] or ranks.get((symbols[left], symbols[right])) != rank:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            after = following[left] = following[right]
            if after < end:
                preceding[after] = left
                enqueue(left)
            if preceding[left] >= 0:
                enqueue(preceding[left])
    return [symbol for symbol in symbols if symbol]
