"""Where the bytes of a shard come from: a file of this machine, an address, or a shell command where that is allowed.

It reads nothing of what it opens.
"""

import os
from collections.abc import Iterable
from typing import Any, BinaryIO

from open_clip.errors import DataError, MissingDependency, printable
from open_clip.files import open_plain
from training.data.optional import import_fsspec, import_openers, import_webdataset
from training.data.urls import local_path


def open_shard(url: str, allow_pipe: bool = False) -> BinaryIO:
    """Open a shard for reading from its start to its end.

    Files of this machine are opened as they are. Other addresses go through fsspec, and where it lacks the package for
    one, through the webdataset library (curl and the like).

    Raises:
        DataError: a ``pipe:`` address that is not allowed.
        MissingDependency: nothing installed reads such an address.
        OSError: the shard cannot be opened.
    """
    path = local_path(url)
    if path is not None:
        return open_plain(path)
    scheme = url.partition(":")[0].lower()
    if scheme == "pipe":
        refuse_pipes([url], allow_pipe)
        piped: BinaryIO = import_openers().gopen_pipe(url, "rb")
        return piped
    try:
        address, options = _address_for_fsspec(url)
        opened: BinaryIO = import_fsspec().open(address, "rb", **options).open()
    except (ImportError, ValueError) as error:
        # Called directly: the library's own way in rewrites addresses by an environment variable, to pipes as well.
        reader = import_openers().gopen_schemes.get(scheme)
        if reader is None:
            raise MissingDependency(f"{printable(url)} cannot be read: {printable(error)}.") from error
        opened = reader(url, "rb")
    return opened


def refuse_pipes(urls: Iterable[str], allow_pipe: bool) -> None:
    """Check that no address runs a shell command unless that was allowed.

    Raises:
        DataError: one does; also where WDS_SECURE forbids it.
    """
    for url in urls:
        if url.lower().startswith("pipe:") and not allow_pipe:
            raise DataError(
                f"{printable(url)} runs a shell command to get its data. Give --allow-pipe-urls if you trust whoever "
                "wrote it, or name the file or its address instead."
            )
        if url.lower().startswith("pipe:") and import_webdataset().utils.enforce_security:
            raise DataError(f"{printable(url)} runs a shell command, which WDS_SECURE=1 in the environment forbids.")


def _address_for_fsspec(url: str) -> tuple[str, dict[str, Any]]:
    """Turn Huawei's ``obs://bucket/key`` into its S3 form; OBS_ENDPOINT in the environment says where it is."""
    if not url.lower().startswith("obs:"):
        return url, {}
    endpoint = os.environ.get("OBS_ENDPOINT")
    if not endpoint:
        raise DataError(
            f"{printable(url)} lies in Huawei's object storage: set OBS_ENDPOINT in the environment, such as "
            "https://obs.REGION.myhuaweicloud.com, and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
    return f"s3:{url.partition(':')[2]}", {"client_kwargs": {"endpoint_url": endpoint}}
