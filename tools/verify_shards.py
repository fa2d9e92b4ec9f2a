"""Check folders of tar shards: every sample whole, its members side by side, every image decoded, hashes as written.

Ends with status 3 when something is wrong, after all of it was looked at.
"""

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from open_clip.errors import DataError, OpenClipError, printable
from open_clip.files import open_plain
from training.data.decode import ImageBytes
from training.data.members import MemberColumn
from training.data.shards.pack import MANIFEST, Packed, read_manifest
from training.data.shards.selector import RawSample, Selector, group_members
from training.data.shards.tar import Member, TornTarError, read_members
from training.data.shards.write import digest_files
from training.data.urls import get_dataset_size

_CHUNK = 1 << 20
_MAX_SHOWN = 20


def verify_folder(folder: Path) -> tuple[int, int, list[str]]:
    """Check the shards of one folder.

    Returns:
        Number of shards, number of sound samples, and what is wrong, a line each.

    Raises:
        DataError: it is no folder, or holds no shard.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataError(f"{printable(folder)} holds no shard (*.tar). Name folders of shards.")
    total, wrong = 0, []
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    for shard in shards:
        count, problems = verify_shard(shard)
        problems += [] if manifest is None else list(_compare(shard, count, manifest))
        total += count
        wrong += [f"{shard}: {problem}" for problem in problems]
    there = {name for shard in shards for name in (shard.name, shard.stem)}
    for name in () if manifest is None else sorted(manifest.shards.keys() - there):
        what = "is a folder of which no tar was made" if (folder / name).is_dir() else "is not there"
        wrong.append(f"{folder / name}: {MANIFEST} names it and it {what}")
    try:
        counted = get_dataset_size([str(shard) for shard in shards])[0]
    except DataError as error:
        wrong.append(str(error))
    else:
        if counted is not None and counted != total:
            wrong.append(f"{folder}: the counts beside the shards say {counted} samples, {total} are sound")
    return len(shards), total, wrong


def verify_shard(path: Path) -> tuple[int, list[str]]:
    """Check one shard; returns its sound samples and what is wrong with the others."""
    wrong: list[str] = []
    try:
        with open_plain(path) as file:
            samples = list(group_members(_until_torn(file.fileno(), wrong)))
            times = Counter(sample.key for sample in samples)
            apart = [key for key, number in times.items() if number > 1]
            if apart:
                wrong.append(
                    f"the members of {len(apart)} samples do not stand together, {apart[0]} for one: most readers lose "
                    "them. Make tars with `tar --sort=name`"
                )
            sound = 0
            for sample in (one for one in samples if times[one.key] == 1):
                problem = _why_not(file.fileno(), sample)
                if problem is not None:
                    wrong.append(f"{sample.key}: {problem}")
                sound += problem is None
    except OSError as error:
        return 0, [f"cannot be read: {error.strerror or error}"]
    return sound, wrong


def _until_torn(descriptor: int, wrong: list[str]) -> Iterator[Member]:
    try:
        yield from read_members(descriptor)
    except TornTarError as error:
        wrong.append(str(error))


def _why_not(descriptor: int, sample: RawSample) -> str | None:
    """Read all of a sample and say what is wrong with it; None where nothing is."""
    chosen = Selector().choose(sample)
    if isinstance(chosen, str):
        return chosen
    for suffix, member in sample.members.items():
        column = MemberColumn.named(suffix, suffix)
        reason = column.why_not_size(0, member.size)
        if reason is not None:
            return reason
        try:
            value = column.read(0, os.pread(descriptor, member.size, member.offset), seed=0)
            if isinstance(value, ImageBytes):
                value.open()
        except DataError as error:
            return str(error) if str(error).startswith(suffix) else f"{suffix}: {error}"
    return None


def _compare(shard: Path, count: int, manifest: Packed) -> Iterator[str]:
    """Compare a shard with what the manifest says of it, or of the folder that it was made of."""
    is_folder = shard.name not in manifest.shards
    written = manifest.shards.get(shard.stem if is_folder else shard.name)
    if written is None:
        yield f"{MANIFEST} does not name it"
        return
    if count != written.samples:
        yield f"{MANIFEST} says {written.samples} samples, {count} are sound"
    try:
        with open_plain(shard) as file:
            digest = _digest_members(file.fileno()) if is_folder else _digest(file)
    except (OSError, TornTarError) as error:
        yield f"its hash cannot be taken: {error}"
        return
    if digest != written.sha256:
        yield f"its hash is not the one of {MANIFEST}: it was changed or damaged after it was packed"


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _digest_members(descriptor: int) -> str:
    """Return the hash that a folder's files have, whatever their order in its tar."""
    names = {os.path.basename(member.name): member for member in read_members(descriptor)}
    return digest_files((name, os.pread(descriptor, one.size, one.offset)) for name, one in sorted(names.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check folders of tar shards.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder of shards")
    args = parser.parse_args(arguments)
    all_wrong: list[str] = []
    for folder in args.folders:
        try:
            num_shards, num_samples, wrong = verify_folder(folder)
            print(f"{printable(folder)}: {num_shards} shards, {num_samples} sound samples, {len(wrong)} problems")
        except OpenClipError as error:
            wrong = [str(error)]
        all_wrong += wrong
    for line in all_wrong[:_MAX_SHOWN]:
        print(printable(line), file=sys.stderr)
    if len(all_wrong) > _MAX_SHOWN:
        print(f"{len(all_wrong) - _MAX_SHOWN} more", file=sys.stderr)
    return DataError.exit_status if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
