"""The short ways round ftfy: proved on its rules, then tried on text that was made to break them."""

import random
import re
import sys
import unicodedata

import ftfy
import pytest
from ftfy.badness import BADNESS_RE, MOJIBAKE_CATEGORIES

from hostile_text import hostile_captions
from open_clip.errors import DataError
from open_clip.tokenizer import repair
from open_clip.tokenizer.repair import repair_text

# Python 3.11 moved the parser of patterns, whose module also names what it finds.
parser = re._parser if sys.version_info >= (3, 11) else re.sre_parse
ALL = frozenset(map(chr, range(0x11000)))
BEYOND_ASCII = frozenset(map(chr, range(0x80, 0x11000)))
ENCODINGS = ["latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac-roman", "cp437"]
PARTS = (
    ["naïve café", "it’s “ok”", "Größe", "Москва", "こんにちは", "Ångström ½", "€20 – £5…", "Ελλάδα", "e\u0301t", "ﬁn"]
    + ["Ｆｕｌｌ＆ｗ", "R&B", "&amp;", "&eacute;", "a<b&amp;", "x&#146;s", "&#x1b;[0m", "&#10;", "&ＡMP;", "&＃39;"]
    + [
        "ŉ",
        "\n",
        "Â ",
        "Ã ",
        "à ²",
        "œ",
        "Œ x",
        "Ã\n",
        "\u200b",
        "👩‍👩‍👧",
        "ſ",
        "İ",
        "한국어",
        "\u1112\u1161\u11ab",
        "العربية",
    ]
)


def chars_like(pattern):
    found = re.compile(f"[{pattern}]")
    return frozenset(char for char in ALL if found.match(char))


def element_chars(code, value):
    """The characters that one element of a parsed pattern matches."""
    if code is parser.LITERAL:
        return frozenset(chr(value))
    if code is parser.ANY:
        return ALL
    assert code is parser.IN
    found = set()
    for kind, detail in value:
        if kind is parser.LITERAL:
            found.add(chr(detail))
        elif kind is parser.RANGE:
            found.update(map(chr, range(detail[0], detail[1] + 1)))
        elif kind is parser.CATEGORY:
            name = {parser.CATEGORY_WORD: r"\w", parser.CATEGORY_SPACE: r"\s"}[detail]
            found.update(char for char in ALL if re.match(name, char))
        else:
            assert kind is parser.NEGATE
    return ALL - found if value[0][0] is parser.NEGATE else frozenset(found)


def sequences(items):
    """Every sequence of characters sets that a parsed pattern can match."""
    found = [[]]
    for code, value in items:
        if code is parser.BRANCH:
            choices = [sequence for branch in value[1] for sequence in sequences(branch)]
        elif code is parser.SUBPATTERN:
            choices = sequences(value[-1])
        elif code is parser.MAX_REPEAT:
            assert tuple(value[:2]) == (0, 1)
            choices = [[], *sequences(value[2])]
        else:
            choices = [[]] if code is parser.AT else [[element_chars(code, value)]]
        found = [start + choice for start in found for choice in choices]
    return found


def test_the_search_for_mojibake_succeeds_only_where_it_is_called_suspicious():
    loud = chars_like(
        repair._MORE_LOUD
        + "".join(chars for kind, chars in MOJIBAKE_CATEGORIES.items() if kind not in repair._QUIET_KINDS)
    )
    alone = chars_like(repair._LOUD_ALONE)
    found = sequences(parser.parse(BADNESS_RE.pattern, BADNESS_RE.flags))
    assert len(found) > 30
    for sequence in found:
        neighbours = list(zip(sequence, sequence[1:], strict=False))
        assert any(chars <= alone for chars in sequence) or any(
            (one <= loud and other <= BEYOND_ASCII) or (one <= BEYOND_ASCII and other <= loud)
            for one, other in neighbours
        ), sequence


def test_every_single_character_is_repaired_as_ftfy_does():
    # Between lie ideographs and Hangul syllables, of which no table knows any.
    for code in (*range(0x3400), *range(0xD700, 0x11000), *range(0x1D100, 0x1D200), *range(0x2F800, 0x2FA20)):
        text = f"a{chr(code)}b"
        assert repair_text(text) == ftfy.fix_text(text), hex(code)


def mojibake_captions(count, seed):
    rng = random.Random(seed)
    loud = sorted({char for pattern in MOJIBAKE_CATEGORIES.values() for char in chars_like(pattern)})
    for _ in range(count):
        kind = rng.randrange(3)
        if kind == 0:
            yield "".join(rng.choice(loud if rng.random() < 0.35 else "abcZ .,? 1") for _ in range(rng.randint(1, 25)))
            continue
        parts = [rng.choice(PARTS if rng.random() < 0.8 else loud) for _ in range(rng.randint(1, 8))]
        text = rng.choice([" ", ""]).join(parts)
        for _ in range(rng.randint(0, 2) if kind == 1 else 0):
            text = text.encode("utf-8", "surrogatepass").decode(rng.choice(ENCODINGS), "ignore")
        yield text


@pytest.mark.parametrize("make", [mojibake_captions, hostile_captions])
def test_hostile_text_is_repaired_as_ftfy_does(make):
    for text in make(8000, 11):
        assert repair_text(text) == ftfy.fix_text(text), repr(text)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mojibake_captions, hostile_captions])
def test_much_hostile_text_is_repaired_as_ftfy_does(make):
    for text in make(150_000, 12):
        assert repair_text(text) == ftfy.fix_text(text), repr(text)


@pytest.mark.parametrize("text", ["é " * 600_000, "“" + "a" * 1_000_000 + "Ã©", "Ã©\n" * 200, "", "a" * 10])
def test_long_and_many_lines_are_repaired_as_ftfy_does(text):
    assert repair_text(text) == ftfy.fix_text(text)


@pytest.mark.parametrize("entity", ["amp;", "AMP;", "#38;", "#x26;", "#0038;", "#X026;", "amp;#38;AMP;"])
@pytest.mark.parametrize("end", ["", "lt;b", "eacute; Ã©", "\ud83d\ude00;", "amp", " &lt;", "<", "“Ã©”;&amp;#233;"])
def test_entities_nested_to_any_depth_are_repaired_as_ftfy_does(entity, end):
    for depth in (*range(14), 100):
        text = f"Ã&{entity * depth}{end}"
        assert repair_text(text) == ftfy.fix_text(text)


def test_nests_that_would_take_hours_are_refused_or_flattened():
    assert repair_text("&" + "amp;" * 200_000) == "&"
    digits, end, nest = {"5": "53", "3": "51", "1": "49", "9": "57", "7": "55"}, "5", ""
    for _ in range(repair.MAX_PASSES + 1):
        nest, end = f"{nest}&#{digits[end][0]}", digits[end][1]
    assert repair_text(nest[6:] + end + ";" * (repair.MAX_PASSES - 2)) != ""
    with pytest.raises(DataError, match="nested"):
        repair_text(nest + end + ";" * (repair.MAX_PASSES + 1))


def test_combining_marks_without_end_are_repaired_as_ftfy_does():
    rng = random.Random(3)
    for marks in ("\u0301\u0316", "\u0301\u0316\u0327\u0334\u0345\u05b0", "\u0f73", "\u0f73\u0344\u0301\u0f81\u0316"):
        for end in ("", "é", "&amp;", "Ã©"):
            text = "a" + "".join(rng.choices(marks, k=1500)) + end
            assert repair_text(text) == ftfy.fix_text(text)
    many = "a" + "\u0301\u0316" * 400_000
    assert repair_text(many) == unicodedata.normalize("NFC", "a" + "\u0316" * 400_000 + "\u0301" * 400_000)


def test_an_ftfy_whose_rules_are_unknown_does_all_the_work(monkeypatch):
    monkeypatch.setattr(ftfy, "__version__", "99.0")
    repair._rules.cache_clear()
    try:
        assert repair._rules() is None
        assert repair_text("it’s cafÃ©") == "it's café"
    finally:
        repair._rules.cache_clear()
