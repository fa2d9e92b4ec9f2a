"""Repair text exactly as `ftfy.fix_text` does, and leave out what provably cannot change it.

It repairs no mojibake of its own: text that looks like it goes to ftfy whole, as does all text under an ftfy whose
rules are not known here.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

# Those whose rules were read and tested: each step but the search for mojibake works character by character, and that
# search (`is_bad`) is one regular expression. test_repair.py proves what is said here of the one that is installed.
_KNOWN_VERSIONS: Final = frozenset({"6.1.0", "6.1.1", "6.1.2", "6.2.0", "6.2.2", "6.2.3", "6.3.0", "6.3.1"})
_MAX_CHARS: Final = 100_000
# Kinds of characters that ftfy's search never finds by themselves: a match holds one of another kind as well.
_QUIET_KINDS: Final = frozenset({"common", "c1", "kaomoji", "lower_accented", "lower_common", "upper_common"})
# Characters that single alternatives of the search name beside the kinds.
_MORE_LOUD: Final = "\x80-\x9f°µØÙЂ"
# Those that need no neighbour outside of ASCII to be found.
_LOUD_ALONE: Final = "\x80-\x9fÃÂŒœ"
# Line ends, control characters, halves of surrogate pairs, escape codes: rare, and steps of their own in ftfy.
_FOR_FTFY: Final = "\x00-\x08\x0a\x0b\x0d-\x1f\x7f-\x9f\u2028\u2029\u206a-\u206f\ud800-\udfff\ufeff\ufff9-\ufffc"


class _Rules(NamedTuple):
    """What the installed ftfy does.

    Attributes:
        notable: finds a character that some step may react to.
        for_ftfy: finds a character whose step is left to ftfy.
        suspicious: finds a place where the search for mojibake could succeed.
        replaced: finds a character that is replaced wherever it stands.
        replacements: what by.
    """

    notable: Callable[[str], object]
    for_ftfy: Callable[[str], object]
    suspicious: Callable[[str], object]
    replaced: re.Pattern[str]
    replacements: dict[str, str]


def repair_text(text: str) -> str:
    """Return what `ftfy.fix_text` returns.

    Source: ftfy 6.1 to 6.3.
    """
    if text.isascii() and text.isprintable() and ("&" not in text or ";" not in text or "<" in text):
        return text
    rules = _rules()
    if rules is not None:
        if rules.notable(text) is None:
            if unicodedata.is_normalized("NFC", text):
                return text
        elif (repaired := _apply(text, rules)) is not None:
            return repaired
    import ftfy

    return ftfy.fix_text(text)


def _apply(text: str, rules: _Rules) -> str | None:
    """Go through ftfy's steps until nothing changes; None where ftfy itself has to."""
    from ftfy.badness import is_bad
    from ftfy.fixes import unescape_html

    unescapes = "<" not in text
    while len(text) <= _MAX_CHARS:
        before = text
        if unescapes and "&" in text and ";" in text:
            text = unescape_html(text)
        if rules.for_ftfy(text) is not None or (rules.suspicious(text) is not None and is_bad(text)):
            return None
        text = rules.replaced.sub(lambda found: rules.replacements[found[0]], text)
        text = unicodedata.normalize("NFC", text)
        if text == before:
            return text
    return None


@lru_cache(maxsize=1)
def _rules() -> _Rules | None:
    """Read the tables of the installed ftfy; None when its rules may be others."""
    import ftfy

    if ftfy.__version__ not in _KNOWN_VERSIONS:
        return None
    from ftfy.badness import MOJIBAKE_CATEGORIES
    from ftfy.chardata import LIGATURES, WIDTH_MAP
    from ftfy.fixes import fix_character_width, fix_latin_ligatures, uncurl_quotes

    curled = (*map(chr, range(0x2018, 0x2020)), "\u02bc")
    replacements = {
        char: uncurl_quotes(fix_character_width(fix_latin_ligatures(char)))
        for char in (*curled, *map(chr, LIGATURES), *map(chr, WIDTH_MAP))
    }
    loud = _MORE_LOUD + "".join(chars for kind, chars in MOJIBAKE_CATEGORIES.items() if kind not in _QUIET_KINDS)
    changed = "".join(map(re.escape, replacements))
    beyond_ascii = "[^\x00-\x7f]"
    return _Rules(
        notable=re.compile(f"[&{_FOR_FTFY}{_LOUD_ALONE}{loud}{changed}]").search,
        for_ftfy=re.compile(f"[{_FOR_FTFY}]").search,
        suspicious=re.compile(f"[{_LOUD_ALONE}]|[{loud}]{beyond_ascii}|{beyond_ascii}[{loud}]").search,
        replaced=re.compile(f"[{changed}]"),
        replacements=replacements,
    )
