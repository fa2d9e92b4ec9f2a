"""Lists of shards from what people write: brace ranges, several sources, weights, counts beside the shards.

It opens no shard and needs no other package.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from open_clip.errors import ConfigError, DataError, cut_list, printable
from open_clip.files import read_plain
from training.data.braces import expand_braces

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
MAX_SIZES_BYTES: Final = 1 << 26
_MAX_SAMPLES: Final = 1 << 40
_Parsed = TypeVar("_Parsed")
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


def expand_urls(
    urls: str | Iterable[str], weights: str | Sequence[float] | None = None
) -> tuple[list[str], Sequence[float] | None]:
    """Spell out a list of shards.

    Args:
        urls: sources joined with ``::``, each with brace ranges such as ``{00000..00499}``; or the names themselves,
            which pass through. ``${NAME}`` stands for the environment variable WDS_NAME.
        weights: one factor a source, joined with ``::``; each shard of a source gets it. With a list of names, one a
            name.

    Returns:
        The names and, when weights were given, the weight of each.

    Raises:
        ConfigError: the weights do not fit the sources or are no numbers, or the braces stand for too many names.

    Source: expand_urls of open_clip_torch 3.3.0.
    """
    if not isinstance(urls, str):
        names = list(urls)
        if weights is None or not isinstance(weights, str):
            return names, weights
        return names, _read_weights(weights, len(names))
    sources = urls.split("::")
    try:
        expanded = [list(expand_braces(_fill_in_variables(source))) for source in sources]
    except RecursionError:
        raise ConfigError(f"{printable(urls, 200)!r} holds too many braces; name fewer shards in one source.") from None
    names = [name for source in expanded for name in source]
    if weights is None:
        return names, None
    factors = _read_weights(weights, len(sources))
    return names, [factor for factor, source in zip(factors, expanded, strict=True) for _ in source]


def get_dataset_size(shards: str | Iterable[str]) -> tuple[int | None, int]:
    """Look up how many samples a list of shards holds.

    The counts stand in ``sizes.json`` (file name -> samples) in the folder of a shard, or in that of the first shard;
    else a file ``__len__`` there holds the sum.

    Returns:
        Samples, None when no such file is there; and the number of shards.

    Raises:
        DataError: such a file is not of this form, or ``sizes.json`` misses a shard.

    Source: get_dataset_size of open_clip_torch 3.3.0, which reads these files only beside the first shard.
    """
    names = expand_urls(shards)[0]
    if not names:
        raise ConfigError("the list of shards is empty.")
    folders = list(dict.fromkeys(os.path.dirname(name) for name in names))
    sizes = {folder: _read_sizes(folder) for folder in folders}
    first = sizes[folders[0]]
    if first is not None:
        return sum(_size_of(name, sizes[os.path.dirname(name)] or first, folders[0]) for name in names), len(names)
    lengths = [_read_length(folder) for folder in folders]
    if lengths[0] is None:
        return None, len(names)
    return sum(length for length in lengths if length is not None), len(names)


def parse_sizes(content: bytes) -> dict[str, int]:
    """Read what a ``sizes.json`` holds: the number of samples of each shard by its file name.

    Raises:
        ValueError: it holds something else.
    """
    try:
        entries = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(entries, dict):
        raise ValueError("it is no object of names")
    for name, size in entries.items():
        if type(size) is not int or not 0 <= size <= _MAX_SAMPLES:
            raise ValueError(f"the entry of {printable(name, 100)} is no number of samples")
    return entries


def local_path(url: str) -> str | None:
    """Return the path of a shard on this machine; None when its address names another way of access.

    Raises:
        ConfigError: a ``file:`` address is malformed.
    """
    if not _SCHEME.match(url):
        return url
    if not url.lower().startswith("file:"):
        return None
    try:
        return unquote(urlsplit(url).path)
    except ValueError as error:
        raise ConfigError(f"{printable(url)} is no address of a file: {error}.") from None


def require_shards(names: Sequence[str]) -> None:
    """Check that every shard that is said to lie on this machine does.

    Raises:
        DataError: names the missing ones.
    """
    if not names:
        raise DataError("the list of shards is empty.")
    # One listing a folder: forty thousand single questions to a network file system take minutes.
    listed: dict[str, frozenset[str] | OSError] = {}
    missing: list[str] = []
    barred: dict[str, None] = {}
    for name in names:
        path = local_path(name)
        if path is None:
            continue
        folder, base = os.path.split(path)
        if folder not in listed:
            listed[folder] = _list_folder(folder or ".")
        found = listed[folder]
        # A folder may forbid to be listed and yet give its files to who knows their names.
        if not os.path.exists(path) if isinstance(found, OSError) else base not in found:
            missing.append(printable(name))
            if isinstance(found, OSError) and not isinstance(found, FileNotFoundError):
                barred[f"{printable(folder or '.')}: {found.strerror}"] = None
    if missing:
        why = f" These folders cannot be listed: {cut_list(barred)}." if barred else ""
        raise DataError(
            f"{len(missing)} of {len(names)} shards are not there: {cut_list(missing)}.{why} "
            "Check the pattern and that the folder is mounted."
        )


def _list_folder(folder: str) -> frozenset[str] | OSError:
    try:
        return frozenset(os.listdir(folder))
    except OSError as error:
        return error
    except ValueError:
        # A name with a NUL character is no file's.
        return frozenset()


def _fill_in_variables(text: str) -> str:
    """Replace ``${NAME}`` by WDS_NAME of the environment, as the webdataset library does; unknown names stay."""
    return _VARIABLE.sub(lambda found: os.environ.get(f"WDS_{found[1]}", found[0]), text)


def _read_weights(weights: str | Sequence[float], count: int) -> list[float]:
    words = weights.split("::") if isinstance(weights, str) else list(weights)
    try:
        factors = [float(word) for word in words]
    except ValueError:
        factors = []
    if len(factors) != count or not all(0 <= factor < float("inf") for factor in factors) or not any(factors):
        raise ConfigError(
            f"--train-data-upsampling-factors {printable(weights, 200)}: give one number for each of the {count} "
            "sources, joined with `::`, none below 0 and not all 0."
        )
    return factors


def _read_sizes(folder: str) -> dict[str, int] | None:
    return _read_beside(folder, "sizes.json", MAX_SIZES_BYTES, parse_sizes, "shard name -> number of samples")


def _read_length(folder: str) -> int | None:
    return _read_beside(folder, "__len__", 100, _parse_length, "a number of samples")


def _read_beside(
    folder: str, name: str, max_bytes: int, parse: Callable[[bytes], _Parsed], what: str
) -> _Parsed | None:
    """Read a file that lies beside shards; None where there is none."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    try:
        return parse(read_plain(path, max_bytes))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or printable(error)
        raise DataError(f"{printable(path)} cannot be read as {what}: {reason}. Write it anew.") from None


def _parse_length(content: bytes) -> int:
    length = int(content)
    if not 0 <= length <= _MAX_SAMPLES:
        raise ValueError("it is too large or negative")
    return length


def _size_of(name: str, sizes: dict[str, int], first_folder: str) -> int:
    size = sizes.get(os.path.basename(name))
    if size is None:
        raise DataError(
            f"sizes.json has no entry for {printable(os.path.basename(name))} (looked beside it and in "
            f"{printable(first_folder or '.')}). "
            "Write it anew or give --train-num-samples."
        )
    return size
