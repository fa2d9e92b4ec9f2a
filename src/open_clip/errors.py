"""The errors a user can meet, each with the exit status it ends a program with.

A message has three parts: what happened, where (file, row, key, flag), what to do next. Nothing here logs or exits.
"""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

from open_clip.redaction import redact

_LISTED_CHARACTERS = 300
# What steers a terminal, hides text or turns its direction; lines break and tabs stand where the program put them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


class OpenClipError(Exception):
    """Base of every error this project raises on purpose; whatever its message quotes steers no terminal."""

    exit_status = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(harmless(one) if isinstance(one, str) else one for one in args))
        self._flags = ""

    def __str__(self) -> str:
        return super().__str__() + self._flags


class ConfigError(OpenClipError, ValueError):
    """A flag, a config file or an argument is wrong."""

    exit_status = 2


class MissingDependency(ConfigError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class ModelNotFound(ConfigError, RuntimeError):
    """A model name or a weights tag is not known."""


class DataError(OpenClipError, RuntimeError):
    """Training or validation data is missing, unreadable or too dirty."""

    exit_status = 3


class CheckpointError(OpenClipError, RuntimeError):
    """A weights or checkpoint file is missing, damaged, hostile or does not fit the model."""

    exit_status = 4


class ModelFolderError(CheckpointError, FileNotFoundError, ValueError):
    """A model folder, or the configuration in it, is missing; programs of upstream's wait for either built-in error."""


class NumericsError(OpenClipError, ArithmeticError):
    """The loss or the weights are no longer finite."""

    exit_status = 5


class DeviceError(OpenClipError, RuntimeError):
    """The device asked for is absent, too small or failed."""

    exit_status = 6


class Preempted(OpenClipError):
    """The run stopped on request after saving; the same command with ``--resume latest`` goes on."""

    exit_status = 75


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
    """Say below the message of an error which flag it is about."""
    try:
        yield
    except OpenClipError as error:
        error._flags += f"\n({flag})"
        raise


@contextlib.contextmanager
def naming_file(path: object) -> Iterator[None]:
    """Say before the message of an error about weights which file it is about."""
    try:
        yield
    except CheckpointError as error:
        error.args = (f"{printable(path)}: {error.args[0]}", *error.args[1:])
        raise


def suggest_nearest(name: object, known: Iterable[str], count: int = 3) -> str:
    """Say which known names are nearest to a misspelt one.

    Returns:
        ``" Did you mean a, b or c?"`` with a leading space, or an empty string when nothing is near.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [by_lower[match] for match in difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.5)]
    if not near:
        return ""
    listed = near[0] if len(near) == 1 else f"{', '.join(near[:-1])} or {near[-1]}"
    return f" Did you mean {listed}?"


def cut_list(items: Iterable[object], limit: int = 10) -> str:
    """Join items with commas, the first ``limit`` of them, then how many more there are; foreign text is escaped."""
    listed = list(items)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(printable(item, _LISTED_CHARACTERS) for item in listed[:limit]) + more


def harmless(message: str) -> str:
    """Escape what could steer a terminal in a whole message and leave secrets out; its own line breaks stay.

    It is the last line of defence: a name that could forge a line has to pass through :func:`printable` before.
    """
    return _UNPRINTABLE.sub(lambda found: printable(found[0]), redact(message))


def printable(text: object, limit: int | None = None) -> str:
    """Write a name or text from the outside so that it cannot forge a line or steer a terminal.

    Control characters, line breaks, marks of writing direction and lone surrogates become escapes, and secrets in
    addresses are left out. Every file name, key or value that this project did not make passes here before it stands in
    a message.

    Args:
        text: What to show.
        limit: Characters to keep; what is longer ends in three dots.
    """
    whole = redact(str(text))
    if limit is not None and len(whole) > limit:
        whole = whole[: max(limit - 3, 0)] + "..."
    if whole.isprintable():
        return whole
    clean = whole.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in clean)


def first_line(error: BaseException) -> str:
    """Give the first line of a library's error for a message, without the stop at its end; its kind if it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0].strip() if lines else type(error).__name__, _LISTED_CHARACTERS).rstrip(" .:")
