"""What stands in shards that give no sample, in words: suffixes with counts, and the flags that would read them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from open_clip.errors import DataError, cut_list, printable
from open_clip.files import open_plain
from training.data.decode import IMAGE_SUFFIXES
from training.data.members import MAX_JSON_BYTES, parse_record
from training.data.quarantine import Fault
from training.data.shards.selector import Selector
from training.data.shards.tar import Member, TornTarError, read_members

NUM_DESCRIBED: Final = 3
_MAX_SHOWN: Final = 40
_JSON: Final = "json"


def describe_shards(paths: Sequence[str], num_shards: int, faults: Iterable[Fault], selector: Selector) -> str:
    """Say what was found in place of samples, and what to do.

    Args:
        paths: the first shards on this machine, which are read again.
        num_shards: how many there are in all.
        faults: samples of all shards that cannot be used.
        selector: which members make a sample.
    """
    members, record = _count_all(paths)
    where = "They hold" if len(paths) == num_shards else f"The first {len(paths)} hold"
    if not members:
        return f"{where} no file at all: they are empty. Check that whole shards were written."
    found = cut_list(f"{count} {suffix}" for suffix, count in members.most_common())
    reasons = Counter(fault.reason for fault in faults).most_common(1)
    why = f" The commonest reason, of {reasons[0][1]} samples: {reasons[0][0]}." if reasons else ""
    return f"{where} {found}.{why} {_advise(members, _text_fields(record), selector)}"


def list_columns(paths: Sequence[str]) -> list[str]:
    """List what could be read of some shards: their suffixes, the commonest first, and the keys of the first json."""
    members, record = _count_all(paths)
    suffixes = [name[1:] for name, _ in members.most_common() if name.startswith(".")]
    return [*suffixes, *(printable(f"{_JSON}:{key}", _MAX_SHOWN) for key in record)]


def _count_all(paths: Sequence[str]) -> tuple["Counter[str]", dict[str, object]]:
    """Count the suffixes of some shards' members, and read the first json that is one of named values."""
    members: Counter[str] = Counter()
    record: dict[str, object] = {}
    for path in paths:
        _count(path, members, record)
    return members, record


def _count(path: str, members: "Counter[str]", record: dict[str, object]) -> None:
    try:
        with open_plain(path) as file:
            for member in read_members(file.fileno()):
                _, dot, suffix = os.path.basename(member.name).partition(".")
                suffix = suffix.lower()
                members[printable(f".{suffix}", _MAX_SHOWN) if dot else "without a suffix"] += 1
                if suffix == _JSON and not record:
                    record.update(_read_record(file.fileno(), member))
    # What came before the tear tells enough; why the rest cannot be read stands among the faults.
    except (OSError, TornTarError):
        pass


def _read_record(descriptor: int, member: Member) -> dict[str, object]:
    """Read the named values of a json; none where it has none."""
    if member.size > MAX_JSON_BYTES:
        return {}
    try:
        record = parse_record(os.pread(descriptor, member.size, member.offset))
    except DataError:
        return {}
    return record if isinstance(record, dict) else {}


def _text_fields(record: dict[str, object]) -> list[str]:
    """Return the names of the values that are text."""
    return [printable(name, _MAX_SHOWN) for name, value in record.items() if isinstance(value, str) and value]


def _advise(members: "Counter[str]", fields: list[str], selector: Selector) -> str:
    has_text = not members.keys().isdisjoint(_dotted(selector.text_keys))
    if fields and not selector.json_keys and not has_text:
        field = "caption" if "caption" in fields else fields[0]
        return (
            f"Their .json files hold text: take captions from there with --json-text-key {field} "
            f"(fields with text: {cut_list(fields)}), or name the caption files with --text-key."
        )
    images = [suffix[1:] for suffix in members if suffix in IMAGE_SUFFIXES and suffix[1:] not in selector.image_keys]
    hint = f" (such as --image-key '{';'.join(images)}')" if images else ""
    return f"Name other suffixes with --image-key and --text-key{hint}, or a field of .json files with --json-text-key."


def _dotted(keys: Iterable[str]) -> list[str]:
    return [f".{key}" for key in keys]
