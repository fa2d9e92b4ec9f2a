"""Captions made up from a seed: word frequencies and lengths as in caption sets. Tokenizes nothing.

The words are those of the shared vocabulary file, whose order is about the order of their frequency in text.
"""

import gzip
import math
import random
from collections.abc import Sequence
from pathlib import Path

_VOCABULARY = Path(__file__).resolve().parents[1] / "src" / "open_clip" / "bpe_simple_vocab_16e6.txt.gz"
_SMALL_WORDS = ("a", "the", "of", "in", "on", "with", "and", "at", "to", "is")
_FOREIGN = (
    "café",
    "Übergröße",
    "naïve",
    "São Paulo",
    "москва",
    "зима",
    "北京的秋天",
    "東京タワー",
    "서울",
    "प्रेम",
    "القاهرة",
    "Ελλάδα",
    "🙂",
    "❤️",
    "🇯🇵",
    "“quoted”",
    "it’s",
    "5 €",
    "&amp;",
    "&lt;b&gt;",
    "cafÃ©",
    "½ price",
    "naïveté — ok",
    "ﬁne",
)
MIXES = ("short", "web", "mixed")


def make_captions(mix: str, count: int, seed: int) -> list[str]:
    """Make captions up.

    Args:
        mix: ``short`` (ASCII, about 15 tokens, none long), ``web`` (ASCII, a tail beyond 77 tokens) or ``mixed``
            (lengths of ``short``, half of the captions not ASCII).
        count: How many.
        seed: The same seed gives the same captions.
    """
    if mix not in MIXES:
        raise ValueError(f"there is no mix of captions named {mix}; the known ones are {', '.join(MIXES)}")
    rng = random.Random(f"{mix} {seed}")
    words = _words()
    # Zipf's law, flattened at its head as vocabularies of captions are.
    weights = [1 / (rank + 20) for rank in range(len(words))]
    totals = [0.0]
    for weight in weights:
        totals.append(totals[-1] + weight)
    captions = []
    for _ in range(count):
        length = _length(mix, rng)
        chosen = rng.choices(words, cum_weights=totals[1:], k=length)
        pieces = [_dress(word, rng) for word in chosen]
        if mix == "mixed" and rng.random() < 0.5:
            for _ in range(rng.randint(1, 3)):
                pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(_FOREIGN))
        captions.append(" ".join(pieces) + rng.choice(("", "", ".", "!")))
    return captions


def read_captions(path: str) -> list[str]:
    """Read captions, one a line; empty lines are left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    captions = [line for line in lines if line.strip()]
    if not captions:
        raise ValueError(f"{path} holds no caption; give a text file with one caption a line")
    return captions


def take(captions: Sequence[str], start: int, count: int) -> list[str]:
    """Take captions from a place on, from the beginning again after the last one."""
    return [captions[(start + place) % len(captions)] for place in range(count)]


def describe_lengths(lengths: Sequence[int]) -> dict[str, float]:
    """Describe token counts: mean, 95th percentile, greatest."""
    ordered = sorted(lengths)
    place = max(0, math.ceil(0.95 * len(ordered)) - 1)
    return {"mean": round(sum(ordered) / len(ordered), 2), "p95": ordered[place], "max": ordered[-1]}


def _length(mix: str, rng: random.Random) -> int:
    if mix == "web":
        return max(2, min(120, round(rng.lognormvariate(math.log(9), 0.66))))
    return max(3, min(22, round(rng.gauss(10, 3.2))))


def _dress(word: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.30:
        return rng.choice(_SMALL_WORDS)
    if chance < 0.36:
        return word.capitalize()
    if chance < 0.39:
        return str(rng.randint(1, 2030))
    if chance < 0.43:
        return word + ","
    if chance < 0.46:
        # Rare words, of several tokens: made anew almost every time.
        return word + rng.choice(_SMALL_WORDS) + chr(rng.randrange(97, 123)) + chr(rng.randrange(97, 123))
    return word


def _words() -> list[str]:
    with gzip.open(_VOCABULARY, "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1:49_000]
    joined = ("".join(line.split()) for line in merges)
    whole = (word.removesuffix("</w>") for word in joined if word.endswith("</w>"))
    return [word for word in whole if len(word) > 2 and word.isascii() and word.isalpha()]
