"""Make captions that break tokenizers. Makes text only; what they tokenize to is for the tests."""

import random
from collections.abc import Callable

_ENTITIES = [
    "&amp;",
    "&amp;amp;",
    "&lt;b&gt;",
    "&#39;",
    "&#x1F600;",
    "&#xD800;",
    "&nbsp;",
    "&copyx",
    "&AMP",
    "&;",
    "&#0;",
]
_SPECIALS = [
    "<start_of_text>",
    "<end_of_text>",
    "<START_OF_TEXT>",
    "<end_of_",
    "</w>",
    "<\u017ftart_of_text>",
    "<|endoftext|>",
]
_MOJIBAKE = [
    "cafÃ©",
    "â€œquotedâ€\x9d",
    "itâ€™s",
    "ÃƒÂ©tÃƒÂ©",
    "Ã¼ber",
    "ðŸ˜€",
    "ï»¿bom",
    "schÃ¶n â€” so",
    "\x93cp1252\x94",
]
_FOLDING = [
    "İstanbul",
    "ISTANBUL",
    "ſtraße",
    "\u212aelvin",
    "\u212bngström",
    "ΣΊΣΥΦΟΣ",
    "ǅungla",
    "DON'T",
    "it'\u017f",
    "we'LL",
    "ﬃ ﬁ",
]
_SPACES = [
    "\u200b",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u2029",
    "\u180e",
    "\x1c",
    "\x1f",
    "\x85",
    "\t",
    "\r\n",
    "\x0b",
]
_EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "👍🏽", "☕️", "1️⃣", "❤"]
_CJK = ["日本語", "中文字幕", "한국어", "ｆｕｌｌ１２", "ｶﾀｶﾅ", "今日は良い天気ですね", "２０２４年"]
_SCRIPTS = ["العربية", "हिन्दी", "ไทย", "Ελληνικά", "русский", "עברית", "a\u0301e\u0308", "n\u0303o\u0302", "Ⅻ½²٣௧"]
_CONTROLS = ["\x00", "\x07", "\x1b[31mred\x1b[0m", "\x7f", "\x80", "\x9b", "\ufffe", "\uffff", "\ufffd", "\U000e0041"]
_SURROGATES = ["\ud800", "\udc00", "\ud83d\ude00", "\udfffx"]
_PUNCTUATION = [
    "...",
    "!?",
    "--",
    "'s",
    "'",
    "''",
    "\u2019s",
    "@#$%",
    "_",
    "__init__",
    "\\",
    "<>",
    "><",
    "&",
    "{}",
    "x=1;y<2",
]
_WORDS = [
    "a",
    "the",
    "photo",
    "of",
    "dog",
    "cats",
    "don't",
    "running",
    "2024",
    "x86",
    "3.14",
    "Beautiful",
    "SUNSET",
    "over",
    "mountains",
    "it's",
    "we'll",
    "I'm",
    "they've",
]

_POOLS = [
    _ENTITIES,
    _SPECIALS,
    _MOJIBAKE,
    _FOLDING,
    _SPACES,
    _EMOJI,
    _CJK,
    _SCRIPTS,
    _CONTROLS,
    _SURROGATES,
    _PUNCTUATION,
]


def _plain(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=rng.randint(0, 30)))


def _ascii(rng: random.Random) -> str:
    return "".join(map(chr, rng.choices(range(128), k=rng.randint(0, 60))))


def _printable(rng: random.Random) -> str:
    return "".join(map(chr, rng.choices(range(32, 127), k=rng.randint(0, 90))))


def _latin(rng: random.Random) -> str:
    return "".join(map(chr, rng.choices(range(32, 0x180), k=rng.randint(0, 40))))


def _any_plane(rng: random.Random) -> str:
    limit = rng.choice([0x800, 0x3000, 0x10000, 0x20000, 0x110000])
    return "".join(chr(rng.randrange(limit)) for _ in range(rng.randint(0, 25)))


def _one_pool(rng: random.Random) -> str:
    pool = rng.choice(_POOLS)
    return rng.choice(["", " ", "x"]).join(rng.choices(pool, k=rng.randint(1, 8)))


def _mixture(rng: random.Random) -> str:
    parts = [
        rng.choice(_WORDS) if rng.random() < 0.5 else rng.choice(rng.choice(_POOLS)) for _ in range(rng.randint(1, 14))
    ]
    return "".join(part + rng.choice(["", " ", "  "]) for part in parts)


def _long_word(rng: random.Random) -> str:
    alphabet = rng.choice(["abcdefghijklmnopqrstuvwxyz", "a", "ab", "ha", "日本語中文", "!?.", "éèü"])
    return "".join(rng.choices(alphabet, k=rng.randint(40, 160)))


_MAKERS: list[tuple[Callable[[random.Random], str], int]] = [
    (_plain, 10),
    (_ascii, 10),
    (_printable, 20),
    (_latin, 8),
    (_any_plane, 12),
    (_one_pool, 15),
    (_mixture, 23),
    (_long_word, 2),
]


def hostile_captions(count: int, seed: int = 0) -> list[str]:
    """Make `count` hostile captions; the same seed makes the same ones."""
    rng = random.Random(seed)
    makers, weights = zip(*_MAKERS, strict=True)
    return [make(rng) for make in rng.choices(makers, weights=weights, k=count)]
