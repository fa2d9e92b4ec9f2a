"""Patterns with braces, as a shell spells them out: ``{000..499}`` and ``{a,b}``.

It knows no files.
"""

import re
from collections.abc import Iterator
from itertools import product
from typing import Final

from open_clip.errors import ConfigError, printable

MAX_NAMES: Final = 10_000_000
# Characters of a range; no file system takes longer names.
_MAX_RANGE: Final = 1000
_RANGE: Final = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")
_LETTERS: Final = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.(-?\d+))?")


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield what a pattern with ``{a,b}`` and ``{000..499}`` stands for, in order, as a shell does.

    Raises:
        ConfigError: it stands for more names than `MAX_NAMES`.

    Source: the package braceexpand 0.1.7.
    """
    start, stop = _outer_braces(pattern)
    if start < 0:
        yield pattern
        return
    head, inner, tail = pattern[:start], pattern[start + 1 : stop], pattern[stop + 1 :]
    choices = _expand_range(inner)
    if choices is None:
        parts = _split_commas(inner)
        # Braces that offer no choice are characters of the name.
        choices = [f"{{{text}}}" for text in expand_braces(inner)] if len(parts) == 1 else []
        if len(parts) > 1:
            choices = [text for part in parts for text in expand_braces(part)]
    tails = list(expand_braces(tail))
    if len(choices) * len(tails) > MAX_NAMES:
        raise ConfigError(f"{printable(pattern, 200)!r} stands for more than {MAX_NAMES:,} names; check its ranges.")
    for choice, rest in product(choices, tails):
        yield f"{head}{choice}{rest}"


def _outer_braces(pattern: str) -> tuple[int, int]:
    """Find the first brace that is closed, and its partner; (-1, -1) when there is none."""
    is_open: list[int] = []
    closed: list[tuple[int, int]] = []
    for place, char in enumerate(pattern):
        if char == "{":
            is_open.append(place)
        elif char == "}" and is_open:
            closed.append((is_open.pop(), place))
    return min(closed, default=(-1, -1))


def _expand_range(inner: str) -> list[str] | None:
    found = _RANGE.fullmatch(inner)
    if found:
        if len(inner) > _MAX_RANGE:
            raise ConfigError(f"{{{printable(inner, 200)}}} stands for more than {MAX_NAMES:,} names; check the range.")
        width = max((len(word) for word in found.groups()[:2] if re.match(r"-?0\d", word)), default=0)
        numbers = _steps(int(found[1]), int(found[2]), int(found[3] or 1), inner)
        return [f"{number:0{width}d}" if width else str(number) for number in numbers]
    found = _LETTERS.fullmatch(inner)
    if found:
        return [chr(code) for code in _steps(ord(found[1]), ord(found[2]), int(found[3] or 1), inner)]
    return None


def _steps(first: int, last: int, step: int, inner: str) -> range:
    step = abs(step) or 1
    if abs(last - first) // step >= MAX_NAMES:
        raise ConfigError(f"{{{printable(inner, 200)}}} stands for more than {MAX_NAMES:,} names; check the range.")
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)


def _split_commas(inner: str) -> list[str]:
    """Split at the commas that stand outside inner braces."""
    parts, depth = [""], 0
    for char in inner:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
