"""Packing rows into numbered shards: a killed run goes on where it stopped and ends with the same bytes.

While it runs, ``packing.jsonl`` holds a line for each shard that is whole. In the end ``manifest.json`` says what every
shard must be and which rows were left out, and ``sizes.json`` how many samples each has.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from open_clip.checked_json import JsonObject, read_json, read_json_lines
from open_clip.errors import DataError, cut_list, printable
from open_clip.files import open_to_append, write_whole
from training.data.shards.write import Sample, WrittenShard, write_shard

MANIFEST: Final = "manifest.json"
SIZES: Final = "sizes.json"
_PROGRESS: Final = "packing.jsonl"
_MOST_BYTES: Final = 1 << 30
_MAX_SHOWN: Final = 5

Row = TypeVar("Row")


class LeftOut(NamedTuple):
    """A row without a sample, and why."""

    row: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.row}: {self.reason}")


@dataclass
class Packed:
    """What a folder of shards holds.

    Attributes:
        settings: what the shards follow from; other settings need another folder.
        shards: each shard by its file name.
        left_out: rows without a sample.
        next_row: number of the first row that is not packed yet.
    """

    settings: Mapping[str, object]
    shards: dict[str, WrittenShard] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    next_row: int = field(default=0, compare=False)

    @property
    def num_samples(self) -> int:
        """Samples of all shards."""
        return sum(shard.samples for shard in self.shards.values())

    def describe(self, out: str | Path) -> list[str]:
        """Say in lines for a person what was left out and what the folder holds."""
        lines = [f"left out: {row}" for row in self.left_out[:_MAX_SHOWN]]
        if len(self.left_out) > _MAX_SHOWN:
            lines.append(f"left out: {len(self.left_out) - _MAX_SHOWN} more, named in {MANIFEST}")
        names = list(self.shards)
        ending = names[-1].removeprefix(f"{len(names) - 1:05d}")
        pattern = f"{printable(out)}/{{00000..{len(names) - 1:05d}}}{ending}"
        return [*lines, f"{self.num_samples} samples, {len(names)} shards: {pattern}"]


@dataclass(frozen=True)
class Packing(Generic[Row]):
    """How rows become shards.

    Attributes:
        rows: all rows in their order.
        make: makes the sample of a row, given its number among the samples; DataError says why there is none.
        name: what a row is called in messages.
        settings: plain values that the samples follow from, a digest of the rows among them.
        per_shard: samples of each shard but the last.
        refused: what was left out before there were rows.
        write: writes one shard.
        ending: what stands behind the number in a shard's name.
    """

    rows: Sequence[Row]
    make: Callable[[Row, int], Sample]
    name: Callable[[Row], str]
    settings: Mapping[str, object]
    per_shard: int
    refused: Sequence[LeftOut] = ()
    write: Callable[[Path, Iterator[Sample]], WrittenShard] = write_shard
    ending: str = ".tar"

    def run(self, out: Path) -> Packed:
        """Write the shards that a folder does not have yet.

        Raises:
            DataError: the folder holds shards of something else, or no row gives a sample.
            OSError: something cannot be written; the same call goes on behind the last whole shard.
        """
        out.mkdir(parents=True, exist_ok=True)
        settings = {"per_shard": self.per_shard, **self.settings}
        done = _read_done(out, settings)
        if done is not None:
            return done
        packed = Packed(settings, left_out=list(self.refused))
        _resume(out, packed)
        with open_to_append(out / _PROGRESS) as progress:
            while packed.next_row < len(self.rows):
                progress.write(self._write_next(out, packed))
        if not packed.shards:
            (out / _PROGRESS).unlink()
            first = f"the first: {packed.left_out[0]}" if packed.left_out else "there is none"
            raise DataError(f"no row can be packed; {first}")
        _write_manifest(out, packed)
        (out / _PROGRESS).unlink()
        return packed

    def _write_next(self, out: Path, packed: Packed) -> bytes:
        """Write one more shard and return its line; a kill before the line is written has it written again, alike."""
        name, num_left_out = f"{len(packed.shards):05d}{self.ending}", len(packed.left_out)
        samples = self._samples(packed)
        first = next(samples, None)
        shard = None if first is None else self.write(out / name, chain([first], samples))
        if shard is not None:
            packed.shards[name] = shard
        return _line({"name": name, "shard": shard, "left_out": packed.left_out[num_left_out:], "row": packed.next_row})

    def _samples(self, packed: Packed) -> Iterator[Sample]:
        """Give the samples of the next shard, and note how far the rows are read and which give none."""
        number = packed.num_samples
        stop = number + self.per_shard
        while packed.next_row < len(self.rows) and number < stop:
            row = self.rows[packed.next_row]
            packed.next_row += 1
            try:
                sample = self.make(row, number)
            except DataError as error:
                packed.left_out.append(LeftOut(self.name(row), str(error)))
                continue
            number += 1
            yield sample


def read_manifest(folder: Path) -> Packed:
    """Read what the shards of a folder must be.

    Raises:
        OSError: there is no manifest, or it cannot be read.
        DataError: it holds something else.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path, _MOST_BYTES)
        shards = {name: WrittenShard(**shard) for name, shard in content["shards"].items()}
        left_out = [LeftOut(**row) for row in content["left_out"]["rows"]]
        return Packed(content["settings"], shards, left_out)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(f"{printable(path)} is no manifest of packed shards. Pack them anew.") from None


def _write_manifest(out: Path, packed: Packed) -> None:
    reasons = Counter(row.reason for row in packed.left_out)
    content = {
        "settings": packed.settings,
        "samples": packed.num_samples,
        "shards": {name: shard._asdict() for name, shard in packed.shards.items()},
        "left_out": {
            "count": len(packed.left_out),
            "reasons": dict(reasons.most_common()),
            "rows": [row._asdict() for row in packed.left_out],
        },
    }
    # Readers look for the tars, which are still to be made of folders.
    sizes = {f"{name.removesuffix('.tar')}.tar": shard.samples for name, shard in packed.shards.items()}
    write_whole(out / SIZES, json.dumps(sizes, indent=1) + "\n")
    write_whole(out / MANIFEST, json.dumps(content, indent=1) + "\n")


def _read_done(out: Path, settings: Mapping[str, object]) -> Packed | None:
    """Read the manifest of a folder that is packed already; None where it is not."""
    if not (out / MANIFEST).exists():
        return None
    packed = read_manifest(out)
    _check_settings(out, packed.settings, settings)
    changed = [name for name, shard in packed.shards.items() if not _is_whole(out / name, shard)]
    if changed:
        raise DataError(
            f"{printable(out)} is packed, but {cut_list(changed)} is not what {MANIFEST} says. Delete the folder "
            "to pack it anew."
        )
    return packed


def _resume(out: Path, packed: Packed) -> None:
    """Take over what a killed run has noted; the rest is written again."""
    lines = list(read_json_lines(out / _PROGRESS)) if (out / _PROGRESS).exists() else []
    if not lines:
        if any(out.glob("[0-9]*")):
            raise DataError(f"{printable(out)} holds shards already. Choose an empty folder with --out.")
        write_whole(out / _PROGRESS, _line({"settings": packed.settings}))
        return
    head = lines[0][1] or {}
    _check_settings(out, head.get("settings"), packed.settings)
    kept = [lines[0][0]]
    for raw, line in lines[1:]:
        # A torn line is the last one.
        if line is None or not _take_line(out, line, packed):
            break
        kept.append(raw)
    write_whole(out / _PROGRESS, b"".join(line.rstrip(b"\n") + b"\n" for line in kept))


def _take_line(out: Path, line: JsonObject, packed: Packed) -> bool:
    """Take over a shard of a killed run if it is there in its size."""
    try:
        shard = None if line["shard"] is None else WrittenShard(*line["shard"])
        left_out = [LeftOut(*row) for row in line["left_out"]]
        name, next_row = line["name"], int(line["row"])
    except (KeyError, TypeError, ValueError):
        return False
    if shard is not None:
        if not _is_whole(out / name, shard):
            return False
        packed.shards[name] = shard
    packed.left_out += left_out
    packed.next_row = next_row
    return True


def _is_whole(path: Path, shard: WrittenShard) -> bool:
    """Tell by its size whether a shard is there; a folder gets its name when all of it is."""
    return path.is_dir() or (path.is_file() and path.stat().st_size == shard.num_bytes)


def _check_settings(out: Path, before: object, now: Mapping[str, object]) -> None:
    """Refuse to mix shards of different rows or settings in one folder."""
    known = before if isinstance(before, Mapping) else {}
    changed = [name for name in {**known, **now} if known.get(name) != now.get(name)]
    if changed:
        raise DataError(
            f"{printable(out)} holds shards of other rows or settings ({cut_list(changed)} changed). Choose another "
            "folder with --out."
        )


def _line(content: Mapping[str, object]) -> bytes:
    return json.dumps(content).encode() + b"\n"
