"""Columns whose values are files of their own: members of a shard's sample, or files beside an image.

A column says which suffixes it is looked for under and turns a file's bytes into a value. Nothing in a file is run,
and no file makes more memory than its limit.
"""

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from open_clip.errors import ConfigError, DataError, printable
from training.data.arrays import MAX_ARRAY_BYTES, read_archive, read_array_file
from training.data.decode import IMAGE_SUFFIXES, MAX_FILE_BYTES, ImageBytes
from training.data.encoding import MAX_CAPTION_BYTES, why_not_caption
from training.data.order import sample_seed
from training.data.source import MissingColumns, MissingKey, Source

MAX_JSON_BYTES: Final = 1 << 20
_DRAW_STREAM: Final = 0x43617074
_NUM_TRIED: Final = 8
_TEXTS: Final = frozenset(("txt", "text", "cls", "id"))
_LIMITS: Final = {
    **dict.fromkeys(_TEXTS, MAX_CAPTION_BYTES),
    "json": MAX_JSON_BYTES,
    "npy": MAX_ARRAY_BYTES,
    "npz": MAX_ARRAY_BYTES,
}


class Way(NamedTuple):
    """One way to a value: the file of a suffix, or what stands in that file under a key."""

    suffix: str
    key: str | None = None

    def __str__(self) -> str:
        return self.suffix if self.key is None else f"{self.suffix}:{self.key}"


@dataclass(frozen=True)
class MemberColumn:
    """A column of files.

    Attributes:
        name: what the column is asked for as.
        ways: where a row's value may be; the first whose file the row has is taken.
    """

    name: str
    ways: tuple[Way, ...]

    @classmethod
    def named(cls, name: str, own_name: str | None = None) -> "MemberColumn":
        """Make the column of a name.

        Args:
            name: what it is asked for as.
            own_name: suffixes joined by ``;``, each with a key where ``SUFFIX:KEY`` says so. Without it the file of
                suffix NAME, else NAME.txt, else what stands under NAME in the file of suffix json.

        Raises:
            ConfigError: a suffix has no named values, or there is none.
        """
        if own_name is None:
            return cls(name, (Way(name.lower()), Way(f"{name.lower()}.txt"), Way("json", name)))
        ways = []
        for word in own_name.split(";"):
            suffix, colon, key = word.strip().partition(":")
            suffix = suffix.lstrip(".").lower()
            if not suffix or (colon and (not key or _ending(suffix) not in ("json", "npz"))):
                raise ConfigError(
                    f"--columns {name}={printable(own_name, 200)}: give the suffix of a file such as cls, or a name in "
                    "a json or npz file such as json:label."
                )
            ways.append(Way(suffix, key if colon else None))
        return cls(name, tuple(ways))

    def choose(self, has: Container[str]) -> int | None:
        """Return the number of the way that a row with files of these suffixes takes; None where it has none."""
        return next((number for number, way in enumerate(self.ways) if way.suffix in has), None)

    @property
    def lacking(self) -> str:
        """Why a row without any of the files cannot be used."""
        return f"no {self.name} ({', '.join(map(str, self.ways))})"

    def limit(self, way: int) -> int:
        """Return how many bytes a way's file may have."""
        return _LIMITS.get(_ending(self.ways[way].suffix), MAX_FILE_BYTES)

    def why_not_size(self, way: int, size: int) -> str | None:
        """Say why a file is too large to be read; None when it is not."""
        suffix, limit = self.ways[way].suffix, self.limit(way)
        return f"{self.name} ({suffix}) of {size:,} bytes is over the limit of {limit:,}" if size > limit else None

    def read(self, way: int, content: bytes, seed: int) -> object:
        """Turn a file's bytes into the row's value.

        An image becomes a `StoredImage`, a text a string, json plain data, an array a numpy array, an archive of arrays
        a dictionary of them, and anything else stays bytes. Of several texts under one key the seed draws one.

        Raises:
            DataError: the file is damaged or over a limit; MissingKey where it has nothing under the key.
        """
        suffix, key = self.ways[way]
        ending = _ending(suffix)
        if ending == "npz":
            return read_archive(content, key)
        value: object = content
        if f".{ending}" in IMAGE_SUFFIXES:
            return ImageBytes(content)
        if ending in _TEXTS:
            value = decode_text(content, suffix)
        elif ending == "json":
            value = _read_json(content, suffix, key, seed)
        elif ending == "npy":
            return read_array_file(content)
        reason = why_not_caption(value, f"{self.name} ({suffix})") if isinstance(value, str) else None
        if reason is not None:
            raise DataError(reason)
        return value


def refuse_missing_keys(source: Source, columns: Sequence[MemberColumn], list_there: Callable[[], list[str]]) -> None:
    """Refuse a column of which the first rows' files know nothing: rows are read one at a time, much later.

    Args:
        source: reads the rows.
        columns: its columns of files.
        list_there: lists what else could be read, for the message.

    Raises:
        MissingColumns: naming it and what is there.
    """
    for column in columns:
        keys: dict[str, None] = {}
        for row in range(min(len(source), _NUM_TRIED)):
            try:
                source.read(column.name, row)
                break
            except MissingKey as error:
                keys |= dict.fromkeys(error.there)
            # Damaged rows are counted when they are met.
            except DataError:
                break
        else:
            if len(source):
                raise MissingColumns(source.source, [column.name], dict.fromkeys([*list_there(), *keys]))


def draw(choices: Sequence[tuple[str, float]], seed: int) -> str:
    """Draw a text by its weight; the same seed draws the same."""
    total = sum(weight for _, weight in choices)
    point = sample_seed(seed, 0, _DRAW_STREAM) / (1 << 63) * total
    for text, weight in choices:
        point -= weight
        if point < 0:
            return text
    return choices[-1][0]


def _ending(suffix: str) -> str:
    return suffix.rpartition(".")[2]


def decode_text(content: bytes, name: str) -> str:
    """Decode a file of text; DataError, with what the words call it, where it is no UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 at byte {error.start}") from None


def parse_record(content: bytes, name: str = "json") -> object:
    """Read a file of json as plain data; DataError, with what the words call it, where it is damaged."""
    try:
        record: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} cannot be read: {' '.join(str(error).split())[:100]}") from None
    return record


def _read_json(content: bytes, suffix: str, key: str | None, seed: int) -> object:
    record = parse_record(content, suffix)
    if key is None:
        return record
    fields: dict[str, object] = record if isinstance(record, dict) else {}
    value = fields.get(key)
    if value is None:
        raise MissingKey(f"{suffix} holds nothing under {printable(key, 100)!r}", (f"{suffix}:{one}" for one in fields))
    # A list of texts offers a choice; any other list is the value itself.
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return draw([(text, 1.0) for text in value], seed)
    return value
