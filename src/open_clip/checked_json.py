"""The only reader of JSON that lies on a disk: any file gives values of sane size, or one kind of error.

Files at rest may be cut short, mutated or hostile. Numbers come back finite, nesting is shallow, and nothing that is no
plain file is waited for.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from open_clip.files import open_plain, read_plain

#: An object of JSON, such as a model's configuration; its values are any, so whoever reads one checks them first.
JsonObject: TypeAlias = dict[str, Any]
_MOST_BYTES = 1 << 26
_LONGEST_LINE = 1 << 22
_DEEPEST = 50
_MOST_DIGITS = 18
#: Past it a float no longer tells whole numbers apart; no counter of a run comes near.
MOST_COUNT = 2**53


def parse_json(raw: bytes) -> Any:
    """Read one JSON value; numbers that are not finite become None.

    Raises:
        ValueError: It is no JSON, no UTF-8, or nested more than fifty levels deep.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    # A value without so many brackets cannot be so deep.
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST:
        _check_depth(value)
    return value


def read_json(path: str | Path, most_bytes: int = _MOST_BYTES) -> Any:
    """Read a JSON file.

    Raises:
        OSError: It cannot be read, is no plain file or larger than ``most_bytes``.
        ValueError: As :func:`parse_json`.
    """
    return parse_json(read_plain(path, most_bytes))


def read_json_lines(path: str | Path, start: int = 0) -> Iterator[tuple[bytes, JsonObject | None]]:
    """Yield each line that is not empty with its JSON object; None for one that is none, or is too long to be read.

    Args:
        path: The file.
        start: The byte at which the first line begins.

    Raises:
        OSError: The file cannot be read, or is no plain file.
    """
    with open_plain(path) as file:
        file.seek(start)
        while raw := file.readline(_LONGEST_LINE):
            if len(raw) == _LONGEST_LINE and not raw.endswith(b"\n"):
                while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield b"", None
            elif raw.strip():
                yield raw, _parse_object(raw)


def numbers_of(value: object) -> dict[str, float]:
    """Keep the entries of a mapping that are finite numbers; anything but a mapping has none."""
    if not isinstance(value, dict):
        return {}
    return {str(key): one for key, one in value.items() if is_number(one)}


def is_number(value: object) -> TypeGuard[float]:
    """Tell a finite number, which is no truth value, of a JSON file or of a checkpoint."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST_COUNT if isinstance(value, int) else math.isfinite(value)


def _parse_object(raw: bytes) -> JsonObject | None:
    try:
        value = parse_json(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _whole(digits: str) -> int | float | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else _finite(digits)


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _check_depth(value: object) -> None:
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        inner = [one for one in layer if isinstance(one, dict | list)]
        layer = [child for one in inner for child in (one.values() if isinstance(one, dict) else one)]
