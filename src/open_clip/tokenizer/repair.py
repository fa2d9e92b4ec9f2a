"""Repair text exactly as `ftfy.fix_text` does, leaving out what provably cannot change it, at a bounded cost.

It repairs no mojibake of its own: ftfy's steps do that. Under an ftfy whose rules are not known here, ftfy does all.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache, reduce
from typing import Final, NamedTuple

import regex

from open_clip.errors import DataError

# Those whose rules were read and tested: each step but the search for mojibake works character by character, and that
# search (`is_bad`) is one regular expression. test_repair.py proves what is said here of the one that is installed.
_KNOWN_VERSIONS: Final = frozenset({"6.1.0", "6.1.1", "6.1.2", "6.2.0", "6.2.2", "6.2.3", "6.3.0", "6.3.1"})
# ftfy repairs lines apart from each other, and lines beyond this in parts.
_MAX_LINE_CHARS: Final = 1_000_000
# ftfy goes through its steps until nothing changes: once or twice, unless entities are nested to make it costly.
MAX_PASSES: Final = 64
_NESTED: Final = re.compile(r"&(?:(?:amp|AMP|#0{0,22}38|#[xX]0{0,21}26);){10,}")
_FLATTENED: Final = "&" + 9 * "amp;"
# Sorting a run of combining marks costs the square of its length in `unicodedata`.
_MANY_MARKS: Final = 256
# Three characters are no marks themselves, but two marks each once they are decomposed.
_MARKS: Final = regex.compile(rf"(?:[^\p{{ccc=0}}]|[\u0f73\u0f75\u0f81]){{{_MANY_MARKS},}}")
# Kinds of characters that ftfy's search never finds by themselves: a match holds one of another kind as well.
_QUIET_KINDS: Final = frozenset({"common", "c1", "kaomoji", "lower_accented", "lower_common", "upper_common"})
# Characters that single alternatives of the search name beside the kinds.
_MORE_LOUD: Final = "\x80-\x9f°µØÙЂ"
# Those that need no neighbour outside of ASCII to be found.
_LOUD_ALONE: Final = "\x80-\x9fÃÂŒœ"
# Line ends but the usual one, control characters, halves of surrogate pairs, escape codes: rare, left to their steps.
_FOR_FTFY: Final = "\x00-\x08\x0b\x0d-\x1f\x7f-\x9f\u2028\u2029\u206a-\u206f\ud800-\udfff\ufeff\ufff9-\ufffc"


class _Rules(NamedTuple):
    """What the installed ftfy does.

    Attributes:
        notable: finds a character that some step may react to.
        for_ftfy: finds a character whose step is left to ftfy.
        suspicious: finds a place where the search for mojibake could succeed.
        replaced: finds a character that is replaced wherever it stands.
        replacements: what by.
        unescape: the step that resolves entities.
        is_bad: the search for mojibake.
        steps: what comes after resolving entities and before normalising, in its order.
    """

    notable: Callable[[str], object]
    for_ftfy: Callable[[str], object]
    suspicious: Callable[[str], object]
    replaced: re.Pattern[str]
    replacements: dict[str, str]
    unescape: Callable[[str], str]
    is_bad: Callable[[str], bool]
    steps: tuple[Callable[[str], str], ...]


def repair_text(text: str) -> str:
    """Return what `ftfy.fix_text` returns.

    Raises:
        DataError: HTML entities are nested so deep that it would take ftfy seconds to hours.

    Source: ftfy 6.1 to 6.3.
    """
    if text.isascii() and text.isprintable() and ("&" not in text or ";" not in text or "<" in text):
        return text
    rules = _rules()
    if rules is None:
        import ftfy

        return ftfy.fix_text(text)
    if rules.notable(text) is None and unicodedata.is_normalized("NFC", ordered := _sort_marks(text)):
        return ordered
    repaired, unescapes = [], True
    for line in _split(text):
        unescapes = unescapes and "<" not in line
        repaired.append(_repair(line, rules, unescapes))
    return "".join(repaired)


def _split(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = min(text.find("\n", start) + 1 or len(text), start + _MAX_LINE_CHARS)
        yield text[start:end]
        start = end


def _repair(text: str, rules: _Rules, unescapes: bool) -> str:
    """Go through ftfy's steps until nothing changes."""
    for _ in range(MAX_PASSES):
        before = text
        if unescapes and "&" in text and ";" in text:
            # One level goes in each pass, and all of them go: the same ones less often.
            text = rules.unescape(_NESTED.sub(_FLATTENED, text))
        if rules.for_ftfy(text) is not None or (rules.suspicious(text) is not None and rules.is_bad(text)):
            for step in rules.steps:
                text = step(text)
        else:
            text = rules.replaced.sub(lambda found: rules.replacements[found[0]], text)
        text = unicodedata.normalize("NFC", _sort_marks(text))
        if text == before:
            return text
    raise DataError(f"holds HTML entities nested more than {MAX_PASSES} deep; write the characters they stand for")


def _sort_marks(text: str) -> str:
    """Put long runs of combining marks in the order that normalisation gives them."""
    if len(text) < _MANY_MARKS or text.isascii():
        return text

    def in_order(run: regex.Match[str]) -> str:
        marks = "".join(unicodedata.normalize("NFD", mark) for mark in run[0])
        return "".join(sorted(marks, key=unicodedata.combining))

    in_their_order: str = _MARKS.sub(in_order, text)
    return in_their_order


@lru_cache(maxsize=1)
def _rules() -> _Rules | None:
    """Read the tables of the installed ftfy; None when its rules may be others."""
    import ftfy

    if ftfy.__version__ not in _KNOWN_VERSIONS:
        return None
    from ftfy import fixes
    from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
    from ftfy.chardata import LIGATURES, WIDTH_MAP

    by_character = (fixes.fix_latin_ligatures, fixes.fix_character_width, fixes.uncurl_quotes)
    curled = (*map(chr, range(0x2018, 0x2020)), "\u02bc")
    replacements = {
        char: reduce(lambda text, step: step(text), by_character, char)
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
        unescape=fixes.unescape_html,
        is_bad=is_bad,
        steps=(
            ftfy.fix_encoding,
            fixes.fix_c1_controls,
            *by_character,
            fixes.fix_line_breaks,
            fixes.fix_surrogates,
            fixes.remove_terminal_escapes,
            fixes.remove_control_chars,
        ),
    )
