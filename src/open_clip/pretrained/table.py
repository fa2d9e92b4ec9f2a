"""The table of published weights: where each lies and how its images are prepared. Downloads nothing.

``tags.json`` holds the facts; a tag that names no ``preprocess`` has OpenAI's.

Source: open_clip.pretrained._PRETRAINED (3.3.0). One address there is a slip that is kept: the hub folder of
ViT-B-16-plus-240 laion400m_e32 is the one of laion400m_e31; its URL is right.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Literal, overload

from open_clip.checked_json import JsonObject

_DEFAULT_PREPROCESS = "openai"
_QUICK_GELU_SUFFIX = "-quickgelu"


_DATA = json.loads(Path(__file__).with_name("tags.json").read_text(encoding="utf-8"))

#: How images are prepared for each group of weights.
PREPROCESS: dict[str, JsonObject] = {
    name: {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    for name, settings in _DATA["preprocess"].items()
}


def _read_table() -> dict[str, dict[str, JsonObject]]:
    table: dict[str, dict[str, JsonObject]] = {}
    for model, tags in _DATA["models"].items():
        table[model] = {}
        for tag, entry in tags.items():
            settings = PREPROCESS[entry.pop("preprocess", _DEFAULT_PREPROCESS)]
            table[model][tag] = {"url": entry.pop("url", ""), "hf_hub": entry.pop("hf_hub"), **settings, **entry}
    for model, cfgs in list(table.items()):
        # The weights that need QuickGELU, once more under the name of the configuration that has it.
        if quick := {tag: cfg for tag, cfg in cfgs.items() if cfg.get("quick_gelu")}:
            table[model + _QUICK_GELU_SUFFIX] = quick
    return table


_PRETRAINED = _read_table()


def _clean_tag(tag: str) -> str:
    return tag.lower().replace("-", "_")


@overload
def list_pretrained(as_str: Literal[False] = ...) -> list[tuple[str, str]]: ...
@overload
def list_pretrained(as_str: Literal[True]) -> list[str]: ...
def list_pretrained(as_str: bool = False) -> list[tuple[str, str]] | list[str]:
    """List the published weights as (model, tag) pairs, or as ``model:tag``."""
    pairs = [(model, tag) for model, tags in _PRETRAINED.items() for tag in tags]
    return [":".join(pair) for pair in pairs] if as_str else pairs


def list_pretrained_models_by_tag(tag: str) -> list[str]:
    """List the models that have weights under a tag."""
    return [model for model, tags in _PRETRAINED.items() if _clean_tag(tag) in tags]


def list_pretrained_tags_by_model(model: str) -> list[str]:
    """List the tags of a model."""
    return list(_PRETRAINED.get(model, ()))


def is_pretrained_cfg(model: str, tag: str) -> bool:
    """Tell whether a model has weights under a tag; case and ``-`` for ``_`` do not matter in the tag."""
    return _clean_tag(tag) in _PRETRAINED.get(model, ())


def get_pretrained_cfg(model: str, tag: str) -> JsonObject:
    """Return what is known of a model's tag (url, hf_hub, mean, std, ...), or an empty dict."""
    return deepcopy(_PRETRAINED.get(model, {}).get(_clean_tag(tag), {}))


def get_pretrained_url(model: str, tag: str) -> str:
    """Return the URL of a tag's weights; empty when they are on the hub only or not known."""
    return str(get_pretrained_cfg(model, tag).get("url", ""))
