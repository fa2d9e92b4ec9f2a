"""Samples from a stream of tar files: members that share a key stand together.

Members are handed on as bytes; none is ever decoded here, and none unpickled anywhere.
"""

import logging
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final

from open_clip.errors import ConfigError, DataError, printable
from training.data.shard_files import open_shard

_LOGGER = logging.getLogger(__name__)
IMAGE_SUFFIXES: Final = ("jpg", "png", "jpeg", "webp")
TEXT_SUFFIX: Final = "txt"
MAX_MEMBER_BYTES: Final = 256 * 1024 * 1024
_MAX_EXTENSION_BYTES: Final = 1 << 20
_EXTENSIONS: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_KEY: Final = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_META: Final = re.compile(r"__[^/]*__($|/)")

Member = dict[str, Any]
RawSample = dict[str, Any]
Handler = Callable[[Exception], bool]


def log_and_continue(exn: Exception) -> bool:
    """Log what is wrong with a shard or a sample, and say that the stream goes on."""
    kind = "" if isinstance(exn, DataError) else f" ({type(exn).__name__})"
    _LOGGER.warning("left out of the stream: %s%s", printable(" ".join(str(exn).split())[:500]), kind)
    return True


def base_plus_ext(path: str) -> tuple[str | None, str | None]:
    """Split a member's name at the first dot of its last part into key and suffix; both None without one."""
    found = _KEY.fullmatch(path)
    return (found[1], found[2]) if found else (None, None)


def filter_no_caption_or_no_image(sample: RawSample) -> bool:
    """Tell whether a sample has a caption and an image."""
    return TEXT_SUFFIX in sample and any(suffix in sample for suffix in IMAGE_SUFFIXES)


def group_by_keys_nothrow(
    data: Iterable[Member],
    keys: Callable[[str], tuple[str | None, str | None]] = base_plus_ext,
    lcase: bool = True,
    suffixes: Iterable[str] | None = None,
    handler: Handler | None = None,
) -> Iterator[RawSample]:
    """Put members that follow each other and share a key together.

    Args:
        data: members as ``fname``, ``data`` and ``__url__``; any other item ends a sample.
        keys: from a member's name to key and suffix; members without a key are left out.
        lcase: suffixes in lower case.
        suffixes: the ones to keep; all when left out.
        handler: asked by nobody, since nothing here fails.

    Returns:
        Samples: ``__key__``, ``__url__`` and one entry a suffix. A suffix met twice starts a new sample.

    Source: group_by_keys_nothrow of open_clip_torch 3.3.0, which also joins members of two shards.
    """
    wanted = None if suffixes is None else frozenset(suffixes)
    sample: RawSample | None = None
    for member in data:
        if "fname" not in member:
            # The webdataset library marks the end of a shard so.
            if sample is not None:
                yield sample
            sample = None
            continue
        key, suffix = keys(member["fname"])
        if key is None or suffix is None:
            continue
        suffix = suffix.lower() if lcase else suffix
        url = member.get("__url__")
        if sample is None or key != sample["__key__"] or suffix in sample or url != sample["__url__"]:
            if sample is not None:
                yield sample
            sample = {"__key__": key, "__url__": url}
        if wanted is None or suffix in wanted:
            sample[suffix] = member["data"]
    if sample is not None:
        yield sample


def tarfile_to_samples_nothrow(src: Iterable[Member], handler: Handler = log_and_continue) -> Iterator[RawSample]:
    """Read samples from shards given as ``{"url": ...}``; what is wrong with a shard goes to the handler."""
    return TarSamples(handler)(src)


class TarSamples:
    """A stage from shards to samples.

    Args:
        handler: told of a shard that cannot be read to its end; False stops the stream.
        wanted: tells from a member's name whether to read it; all of them when left out.
        allow_pipe: let a ``pipe:`` address run its shell command.
        max_barren: shards in a row without one sample that has image and caption, after which the stream ends with
            an error instead of turning for ever; None never ends it.
    """

    def __init__(
        self,
        handler: Handler = log_and_continue,
        wanted: Callable[[str], bool] | None = None,
        allow_pipe: bool = False,
        max_barren: int | None = None,
    ) -> None:
        self.handler = handler
        self.wanted = wanted
        self.allow_pipe = allow_pipe
        self.max_barren = max_barren

    def __call__(self, src: Iterable[Member]) -> Iterator[RawSample]:
        """Read the shards one after another.

        Raises:
            DataError: too many shards in a row held nothing that can be used.
        """
        num_barren = 0
        for shard in src:
            num_used = 0
            stop: list[bool] = []
            for sample in group_by_keys_nothrow(self._members(shard["url"], stop)):
                num_used += filter_no_caption_or_no_image(sample)
                yield sample
            if stop:
                return
            num_barren = 0 if num_used else num_barren + 1
            if self.max_barren is not None and num_barren >= self.max_barren:
                raise DataError(
                    f"{num_barren} shards in a row gave no sample with an image and a caption, the last: "
                    f"{printable(shard['url'])}. The warnings before this say what is wrong with each."
                )

    def _members(self, url: str, stop: list[bool]) -> Iterator[Member]:
        try:
            with open_shard(url, self.allow_pipe) as stream:
                yield from _read_members(stream, url, self.wanted)
        except (ConfigError, DataError):
            raise
        # Broken tar files and transports raise nearly anything; each becomes one line of the log.
        except Exception as error:
            if not self.handler(DataError(f"{url}: {error} ({type(error).__name__})")):
                stop.append(True)


class _LimitedInfo(tarfile.TarInfo):
    """A header whose extensions have a limit: the library reads each whole, and a compressed one may be vast."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # The method that the library names as the one to override.
        if self.type in _EXTENSIONS and self.size > _MAX_EXTENSION_BYTES:
            raise tarfile.ReadError(f"an extension header claims {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _read_members(stream: BinaryIO, url: str, wanted: Callable[[str], bool] | None) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_LimitedInfo) as archive:
        for info in archive:
            # The archive keeps every header it has met, for look-ups that a stream never makes.
            archive.members = []  # type: ignore[attr-defined]
            if not info.isreg() or _META.match(info.name) or (wanted is not None and not wanted(info.name)):
                continue
            if info.size > MAX_MEMBER_BYTES:
                name = printable(info.name, 200)
                _LOGGER.warning("%s: %s of %d bytes is over the limit and left out", printable(url), name, info.size)
                continue
            file = archive.extractfile(info)
            if file is not None:
                yield {"fname": info.name, "data": file.read(), "__url__": url}
