"""Fetching a file from a URL: whole, verified, once for all processes. Which file to fetch is decided elsewhere.

Next to ``NAME`` the cache folder holds ``.NAME.lock`` and, while a download is on its way or was cut,
``.NAME.<URL's hash>.part``.
"""

import contextlib
import hashlib
import http.client
import io
import logging
import os
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from open_clip.errors import CheckpointError, printable
from open_clip.files import open_to_append

_logger = logging.getLogger(__name__)

DEFAULT_CACHE_DIR = "~/.cache/clip"
_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_NUM_TRIES = 4
_PAUSE_S = 0.5
_NOT_SATISFIABLE = 416
# Request Timeout and Too Many Requests: asking again later may help, as it may after any 5xx.
_PASSING_STATUSES = (408, 429)


class _Interrupted(Exception):
    """The server stopped answering before the file was whole."""


def download_pretrained_from_url(url: str, cache_dir: str | None = None) -> str:
    """Return the path of a URL's file in the cache folder, fetching it when it is missing or damaged.

    A file whose SHA-256 the URL states (those of OpenAI and of mlfoundations do) is verified whenever it is used. A cut
    download goes on where it stopped. Processes that ask for the same file wait for the first one.

    Raises:
        CheckpointError: the file cannot be fetched, or is not the one the URL promises.
    """
    folder = Path(cache_dir or DEFAULT_CACHE_DIR).expanduser()
    parts = urllib.parse.urlparse(url)
    if parts.scheme not in ("http", "https"):
        raise CheckpointError(f"{printable(url)}: is no http or https address; give the path of a file that is here.")
    name = Path(urllib.parse.unquote(parts.path)).name
    if not name or name == "..":
        raise CheckpointError(f"{printable(url)}: ends in no file name; give the address of one file.")
    target, expected = folder / name, _expected_hash(url)
    try:
        # Without the lock first: a file has its name only when it is whole, and a shared cache may be read-only.
        if not _is_usable(target, expected):
            folder.mkdir(parents=True, exist_ok=True)
            with _only_one(folder / f".{name}.lock"):
                if not (target.exists() and _hash_of(target).startswith(expected)):
                    _fetch(url, target, expected)
    except OSError as error:
        raise CheckpointError(
            f"{printable(url)}: cannot be kept in {printable(folder)} ({error.strerror or error}). Free space or "
            "choose another cache_dir."
        ) from error
    return str(target)


def _only_one(path: Path) -> contextlib.AbstractContextManager[object]:
    from filelock import FileLock

    return FileLock(path)


def _expected_hash(url: str) -> str:
    """Return the SHA-256, or the beginning of it, that a URL states; empty when it states none.

    Source: open_clip.pretrained.download_pretrained_from_url (3.3.0).
    """
    parts = url.split("/")
    if "openaipublic" in url:
        return parts[-2]
    if "mlfoundations" in url:
        return Path(parts[-1]).stem.rsplit("-", 1)[-1]
    return ""


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _is_usable(target: Path, expected: str) -> bool:
    if not target.exists():
        return False
    if not target.is_file():
        raise CheckpointError(f"{printable(target)}: is in the way of a download and not a file. Remove it.")
    if _hash_of(target).startswith(expected):
        return True
    _logger.warning("%s is not what its address promises (SHA-256); it is downloaded again.", printable(target))
    return False


def _fetch(url: str, target: Path, expected: str) -> None:
    part = target.with_name(f".{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    if not expected:
        # Nothing could tell a mixture of two versions of the file from the file.
        part.unlink(missing_ok=True)
    resumed = part.exists() and part.stat().st_size > 0
    try:
        if not resumed:
            _download(url, part, bool(expected))
        elif not _hash_of(part).startswith(expected):
            _download(url, part, is_verified=True)
            if not _hash_of(part).startswith(expected):
                part.unlink()
                _download(url, part, is_verified=True)
    except OSError:
        # Most likely the disk is full: it is not left so.
        part.unlink(missing_ok=True)
        raise
    _check(url, part, expected)
    os.replace(part, target)


def _check(url: str, part: Path, expected: str) -> None:
    """Throw a download away unless it is what was asked for."""
    found = _hash_of(part)
    reason = ""
    if not found.startswith(expected):
        reason = f"its SHA-256 checksum does not not match: it is {found}, its address promises {expected}"
    elif part.stat().st_size == 0:
        reason = "it is empty"
    elif not expected and _begins_as_page(part):
        reason = "it is a web page, not weights"
    if reason:
        part.unlink()
        raise CheckpointError(
            f"{printable(url)}: was downloaded and thrown away: {reason}. Try again later or fetch it by hand."
        )


def _begins_as_page(part: Path) -> bool:
    with part.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")


def _download(url: str, part: Path, is_verified: bool) -> None:
    """Fetch a URL into ``part``, going on where it ends, however often the connection breaks within reason.

    What no hash will verify goes on only where the server can tell that the file is still the same.
    """
    validator = reason = ""
    for attempt in range(1, _NUM_TRIES + 1):
        start = part.stat().st_size if part.exists() and (is_verified or validator) else 0
        try:
            with _open(url, start, validator) as response:
                tag = response.headers.get("ETag") or ""
                validator = "" if tag.startswith("W/") else tag
                _receive(response, part)
            return
        except HTTPError as error:
            if error.code == _NOT_SATISFIABLE and part.exists():
                # What is there is as long as the file or longer: it is whole, or of no use. A hash tells which.
                if is_verified:
                    return
                part.unlink()
                reason = reason or str(error)
            elif error.code < 500 and error.code not in _PASSING_STATUSES:
                raise CheckpointError(
                    f"{printable(url)}: the server answered {error.code} ({printable(error.reason, 200)})."
                ) from error
            else:
                reason = f"the server answered {error.code} ({error.reason})"
        except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError, URLError) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        if attempt < _NUM_TRIES:
            _logger.warning("%s: %s; trying again.", printable(url), printable(reason))
            time.sleep(_PAUSE_S * attempt)
    raise CheckpointError(
        f"{printable(url)}: cannot be downloaded: {printable(reason, 300)}. Without a network, fetch the file "
        "elsewhere and give its path."
    )


def _open(url: str, start: int, validator: str) -> http.client.HTTPResponse:
    # Callers may have put an `urllib` of their own there; importing the package from inside would be a circle.
    package: Any = sys.modules["open_clip.pretrained"]
    headers = {"User-Agent": "open_clip"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    asked = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = package.urllib.request.urlopen(asked, timeout=_TIMEOUT_S)
    return response


def _receive(response: http.client.HTTPResponse, part: Path) -> None:
    """Append an answer to ``part``, or replace it when the server sends the whole file."""
    is_rest = response.status == http.HTTPStatus.PARTIAL_CONTENT
    begins = f"bytes {part.stat().st_size if part.exists() else 0}-"
    if is_rest and not (response.headers.get("Content-Range") or begins).startswith(begins):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server sent another part of the file than the one asked for")
    length = response.headers.get("Content-Length") or ""
    missing = int(length) if length.isdigit() else None
    if not is_rest:
        part.unlink(missing_ok=True)
    # In a folder that others write to, a link may stand under this name.
    with io.BufferedWriter(open_to_append(part)) as file:
        while block := response.read(_BLOCK_BYTES):
            file.write(block)
            missing = None if missing is None else missing - len(block)
        file.flush()
        os.fsync(file.fileno())
    if missing:
        raise _Interrupted(f"the connection was cut {missing} bytes before the end")
