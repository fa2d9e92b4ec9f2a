"""Packages that only streamed shards need, imported when they are asked for."""

import importlib
from typing import Any

from open_clip.errors import MissingDependency
from open_clip.extras import install_advice


def import_webdataset() -> Any:
    """Import webdataset; MissingDependency where it is not installed."""
    return _import("webdataset", "streaming shards needs")


def import_openers() -> Any:
    """Import the part of webdataset that opens addresses; the package's attribute of its name is a function."""
    return _import("webdataset.gopen", "streaming shards needs")


def import_fsspec() -> Any:
    """Import fsspec; MissingDependency where it is not installed."""
    return _import("fsspec", "shards on other machines need")


def _import(name: str, who_needs: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingDependency(
            f"{who_needs} {package}, which cannot be imported ({error}): {install_advice('shards')}."
        ) from error
