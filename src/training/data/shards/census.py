"""What stands in shards that give no sample, in words: suffixes with counts, and the flags that would read them."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from open_clip.errors import cut_list, printable
from open_clip.files import open_plain
from training.data.decode import IMAGE_SUFFIXES
from training.data.quarantine import Fault
from training.data.shards.selector import MAX_JSON_BYTES, Selector
from training.data.shards.tar import Member, TornTarError, read_members

NUM_DESCRIBED: Final = 3
_MAX_SHOWN: Final = 40


def describe_shards(paths: Sequence[str], num_shards: int, faults: Iterable[Fault], selector: Selector) -> str:
    """Say what was found in place of samples, and what to do.

    Args:
        paths: the first shards on this machine, which are read again.
        num_shards: how many there are in all.
        faults: samples of all shards that cannot be used.
        selector: which members make a sample.
    """
    members: Counter[str] = Counter()
    fields: list[str] = []
    for path in paths:
        _count(path, members, fields)
    where = "They hold" if len(paths) == num_shards else f"The first {len(paths)} hold"
    if not members:
        return f"{where} no file at all: they are empty. Check that whole shards were written."
    found = cut_list(f"{count} {suffix}" for suffix, count in members.most_common())
    reasons = Counter(fault.reason for fault in faults).most_common(1)
    why = f" The commonest reason, of {reasons[0][1]} samples: {reasons[0][0]}." if reasons else ""
    return f"{where} {found}.{why} {_advise(members, fields, selector)}"


def _count(path: str, members: "Counter[str]", fields: list[str]) -> None:
    try:
        with open_plain(path) as file:
            for member in read_members(file.fileno()):
                _, dot, suffix = os.path.basename(member.name).partition(".")
                suffix = suffix.lower()
                members[printable(f".{suffix}", _MAX_SHOWN) if dot else "without a suffix"] += 1
                if suffix == "json" and not fields:
                    fields += _text_fields(file.fileno(), member)
    # What came before the tear tells enough; why the rest cannot be read stands among the faults.
    except (OSError, TornTarError):
        pass


def _text_fields(descriptor: int, member: Member) -> list[str]:
    """Return the names of the fields of a json that hold text."""
    if member.size > MAX_JSON_BYTES:
        return []
    try:
        record = json.loads(os.pread(descriptor, member.size, member.offset))
    except (ValueError, RecursionError):
        return []
    fields = record.items() if isinstance(record, dict) else ()
    return [printable(name, _MAX_SHOWN) for name, value in fields if isinstance(value, str) and value]


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
