"""Families of models, found by the ``"family"`` of a configuration: one folder each, whose package holds ``FAMILY``.

A configuration without the key is one of the three that upstream has and is told from its sections. To add a family,
add ``families/NAME/`` with its ``Family`` (``base.py``) and a JSON in ``model_configs/`` with ``"family": "NAME"``;
outside this package, ``register`` it and name the JSON by ``open_clip.add_model_config``. No other file changes.
"""

import pkgutil
from importlib import import_module

from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.families.base import Family

_REGISTERED: dict[str, Family] = {}


def register(family: Family) -> None:
    """Add a family from outside this package, under its name.

    Raises:
        ConfigError: there is another family of this name.
    """
    if family.name in list_families() and _REGISTERED.get(family.name) is not family:
        raise ConfigError(f"there is a family {printable(family.name, 100)} already; give yours another name.")
    _REGISTERED[family.name] = family


def list_families() -> list[str]:
    """List the names that a configuration's ``family`` can be."""
    own = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    return sorted({*own, *_REGISTERED})


def find_family(model_cfg: object) -> Family:
    """Find the family of a model's configuration.

    Raises:
        ConfigError: there is none of the name that it says.
    """
    name = model_cfg.get("family") if isinstance(model_cfg, dict) else None
    if name is None:
        return _load(_told_by_sections(model_cfg))
    if not isinstance(name, str) or name not in list_families():
        known = list_families()
        near = suggest_nearest(name[:100], known) if isinstance(name, str) else ""
        raise ConfigError(
            f"family is {printable(repr(name), 100)}, which this version does not have.{near} It can be "
            f"{', '.join(known)}; open_clip.families.register adds your own."
        )
    return _load(name)


def family_of(model: nn.Module) -> Family | None:
    """Find the family whose class a bare model is of, or derived from; None for a model of no family."""
    families = [_load(name) for name in list_families()]
    for kind in type(model).__mro__:
        for family in families:
            if family.model_class is kind:
                return family
    return None


def check_model_cfg(model_cfg: JsonObject, place: str) -> None:
    """Check a model's configuration as its family does, before anything is built from it.

    Args:
        model_cfg: What stands under ``model_cfg``, or in a file of ``model_configs``.
        place: The file or model it came from, for messages.

    Raises:
        ConfigError: an unknown family or key, a value that cannot be, or a model too large for this machine; names
            place, section, key and value.
    """
    try:
        find_family(model_cfg).check(model_cfg)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _load(name: str) -> Family:
    if name in _REGISTERED:
        return _REGISTERED[name]
    family = import_module(f"{__name__}.{name}").FAMILY
    assert isinstance(family, Family)
    assert family.name == name
    return family


def _told_by_sections(model_cfg: object) -> str:
    """Tell the family of a configuration that does not say it. Source: open_clip.create_model (3.3.0)."""
    if not isinstance(model_cfg, dict):
        return "clip"
    if model_cfg.get("multimodal_cfg") is not None:
        return "coca"
    text_cfg = model_cfg.get("text_cfg")
    has_own_tower = isinstance(text_cfg, dict) and "hf_model_name" in text_cfg
    return "custom_text" if model_cfg.get("custom_text") or has_own_tower else "clip"
