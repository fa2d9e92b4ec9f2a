"""Packages that only streamed shards need, imported when they are asked for."""

import importlib
from typing import Any

from open_clip.errors import MissingDependency
from open_clip.extras import install_advice


def import_webdataset() -> Any:
    """Import webdataset.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import webdataset
    except ImportError as error:
        raise MissingDependency(
            f"streaming shards needs webdataset, which cannot be imported ({error}): {install_advice('shards')}."
        ) from error
    return webdataset


def import_openers() -> Any:
    """Import the part of webdataset that opens addresses; the package's attribute of its name is a function.

    Raises:
        MissingDependency: webdataset is not installed.
    """
    import_webdataset()
    return importlib.import_module("webdataset.gopen")


def import_fsspec() -> Any:
    """Import fsspec.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependency(
            f"shards on other machines need fsspec, which cannot be imported ({error}): {install_advice('shards')}."
        ) from error
    return fsspec
