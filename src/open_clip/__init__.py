"""OpenCLIP for any device: a drop-in ``open_clip``. Names load when first used; ``public.py`` lists them."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from open_clip.version import __version__ as __version__

if TYPE_CHECKING:
    from open_clip.public import *  # noqa: F403


def _public_names() -> list[str]:
    # An imported class or function, not a room that came in along with it: rooms are found by the import system.
    public = import_module("open_clip.public")
    return sorted(name for name in vars(public) if not name.startswith("_")) + ["__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name, or a room such as ``open_clip.factory``, at its first use."""
    if name == "__all__":
        return _public_names()
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    try:
        value = getattr(import_module("open_clip.public"), name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names beside what is loaded already."""
    return sorted({*globals(), *_public_names()})
