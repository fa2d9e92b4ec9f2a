"""What a flag's word may be: each kind turns text into a value or says what it must be. Knows no flag by name."""

import argparse
import ast
import math
import os
import re
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from open_clip.errors import printable

Kind = TypeVar("Kind", int, float)

# What still fits a signed 64-bit number after a few multiplications, such as rows times channels.
_MOST_WHOLE: Final = 2**31 - 1
# Controls, other line ends, marks that turn the direction of writing, and lone surrogates but those by which Python
# holds the bytes of a file name that is not UTF-8.
_UNSEEN: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udc7f\\udd00-\\udfff]")
# Python has a limit of its own for the digits of a number, with a message of its own.
_MOST_DIGITS: Final = 100
_MOST_TEXT: Final = 1 << 20
_MOST_PATH: Final = 4_000
# Of what file systems allow, 255, some is left for what is added to a name.
MOST_NAME: Final = 240


@dataclass(frozen=True)
class Number(Generic[Kind]):
    """A finite number within bounds.

    Attributes:
        kind: ``int`` or ``float``.
        least: Smallest value that is allowed.
        most: Largest value that is allowed.
        above: All values above this one are allowed, itself not.
        below: Likewise.
    """

    kind: type[Kind]
    least: Kind | None = None
    most: Kind | None = None
    above: Kind | None = None
    below: Kind | None = None

    def __call__(self, word: str) -> Kind:
        """Read a number.

        Raises:
            argparse.ArgumentTypeError: It is none, or out of bounds; the flag's name goes before the message.
        """
        try:
            value: Kind | None = self.kind(word) if len(word) <= _MOST_DIGITS else None
        except ValueError:
            value = None
        if value is None or not self._holds(value):
            raise argparse.ArgumentTypeError(f"{shown(word)} is not {self}")
        return value

    def _holds(self, value: Kind) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        most = None if self.most == _MOST_WHOLE else self.most
        bounds = ((self.least, "of at least"), (self.above, "above"), (most, "at most"), (self.below, "below"))
        said = " and ".join(f"{word} {bound:.12g}" for bound, word in bounds if bound is not None)
        return f"a {'whole' if self.kind is int else 'finite'} number {said}".strip()


def whole(least: int = 0, most: int = _MOST_WHOLE) -> Number[int]:
    """Make the kind of whole numbers within bounds."""
    return Number(int, least=least, most=most)


def number(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> Number[float]:
    """Make the kind of finite numbers within bounds."""
    return Number(float, least, most, above, below)


# Three years: what waits for longer waits for ever, and some of the libraries' clocks end soon after.
SECONDS: Final = number(0.0, 1e8)
ABOVE_ZERO: Final = number(above=0.0)
SHARE: Final = number(0.0, 1.0)


def text(word: str) -> str:
    """Read any text that a log and a file of settings can hold as it is.

    Raises:
        argparse.ArgumentTypeError: They cannot: it steers a terminal or breaks lines.
    """
    if _UNSEEN.search(word) or len(word) > _MOST_TEXT:
        raise argparse.ArgumentTypeError(f"{shown(word)} is not text of at most 1 MB without control characters")
    return word


def lower_text(word: str) -> str:
    """Read any text, in small letters.

    Raises:
        argparse.ArgumentTypeError: As ``text``.
    """
    return text(word).lower()


def separator(word: str) -> str:
    """Read what stands between two fields of a table; tabs and other control characters of ASCII may.

    Raises:
        argparse.ArgumentTypeError: It cannot separate anything.
    """
    is_seen = word.isascii() or word.isprintable()
    if not is_seen or not 1 <= len(word) <= 16 or any(char in word for char in '"\r\n\0'):
        raise argparse.ArgumentTypeError(f"{shown(word)} cannot separate fields; give a character such as `,` or a tab")
    return word


def path(word: str) -> str:
    """Read the path of one file or folder, or the address of one.

    Raises:
        argparse.ArgumentTypeError: No system opens it.
    """
    if not word.strip() or len(os.fsencode(text(word))) > _MOST_PATH:
        raise argparse.ArgumentTypeError(f"{shown(word)} is not a path of 1 to {_MOST_PATH:,} bytes")
    return word


def folder_name(word: str) -> str:
    """Read the name of a folder to be made: one part of a path, of characters that can be seen.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    is_plain = text(word).strip() and "/" not in word and word not in (".", "..")
    if not is_plain or len(os.fsencode(word)) > MOST_NAME:
        raise argparse.ArgumentTypeError(f"{shown(word)} is not a plain folder name of 1 to {MOST_NAME} bytes")
    return word


def loss_scale(word: str) -> str:
    """Read a loss scale: ``dynamic`` or a number above 0.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    try:
        ABOVE_ZERO(word if word != "dynamic" else "1")
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{shown(word)} is neither a number above 0 nor `dynamic`") from None
    return word


def key_value(word: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is a Python literal where it parses, else text.

    Raises:
        argparse.ArgumentTypeError: There is no key, or the value is none of those a setting can have.
    """
    key, equals, value = word.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{shown(word)} is not of the form key=value")
    return key, literal(key, value)


def column_pair(word: str) -> str:
    """Check the form ``NAME=COLUMN``; the column may be any text, a file's suffix or a key among it.

    Raises:
        argparse.ArgumentTypeError: One of the two is missing, or cannot be seen.
    """
    name, _, column = text(word).partition("=")
    if not name.isidentifier() or not column.strip():
        raise argparse.ArgumentTypeError(f"{shown(word)} is not of the form NAME=COLUMN, such as label=cls")
    return word


def literal(key: str, value: str) -> Any:
    """Read the value of a ``key=value`` pair: number, True, False, None, text, or a list of these.

    Raises:
        argparse.ArgumentTypeError: It is none of them.
    """
    found: Any = value
    # Longer ones are text; Python's parser takes long over deep nesting.
    if len(value) <= 1_000:
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found = value
    return plain(key, found)


def plain(key: str, value: object, depth: int = 0) -> Any:
    """Return the value of a key as it is when a settings file can hold it.

    Raises:
        argparse.ArgumentTypeError: It cannot.
    """
    if isinstance(value, list | tuple) and depth < 3 and len(value) <= 1_000:
        return type(value)(plain(key, item, depth + 1) for item in value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str) and not _UNSEEN.search(value):
        return value
    raise argparse.ArgumentTypeError(
        f"{printable(key, 60)}={shown(value)} is no finite number, True, False, None or text, and no list of these"
    )


def shown(value: object) -> str:
    """Write a user's value so that it fits into a message."""
    words = value if isinstance(value, str) else repr(value)
    return f"'{printable(words, 80)}'" if isinstance(value, str) else printable(words, 80)
