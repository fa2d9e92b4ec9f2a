"""Model names: what a name means, the registry of model configurations and its errors. Nothing is built here."""

import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NoReturn

from open_clip.checked_json import JsonObject
from open_clip.constants import HF_CONFIG_NAME
from open_clip.errors import ConfigError, ModelFolderError, ModelNotFound, printable, suggest_nearest
from open_clip.files import read_plain
from open_clip.modeling.schema import is_of_unknown_family
from open_clip.pretrained import download_pretrained_from_hf

LOCAL_DIR_SCHEME = "local-dir:"
HUB_SCHEME = "hf-hub:"
_AFTER_SCHEME = {LOCAL_DIR_SCHEME: f"FOLDER, one that holds {HF_CONFIG_NAME}", HUB_SCHEME: "ORGANISATION/REPOSITORY"}
_CONFIG_FOLDER = Path(__file__).parent.parent / "model_configs"
MAX_CONFIG_BYTES = 1 << 20
# The files of models that were added; what stands in the package needs no file to be found.
_ADDED_FROM: dict[str, Path] = {}
_REQUIRED_KEYS = ("embed_dim", "vision_cfg", "text_cfg")


def parse_model_name(model_name: str) -> tuple[str | None, str]:
    """Split a name into its scheme ('local-dir', 'hf-hub' or None) and the rest, with ``/`` as ``-`` for our own names.

    Raises:
        ConfigError: nothing follows the scheme of the hub.
        ModelFolderError: nothing follows the scheme of a folder.
    """
    for scheme in (LOCAL_DIR_SCHEME, HUB_SCHEME):
        if model_name.startswith(scheme):
            rest = model_name.removeprefix(scheme)
            if not rest:
                kind = ModelFolderError if scheme == LOCAL_DIR_SCHEME else ConfigError
                raise kind(
                    f"the model name {model_name!r} has nothing after it: write {scheme}{_AFTER_SCHEME[scheme]}."
                )
            return scheme.rstrip(":"), rest
    return None, model_name.replace("/", "-")


def place_of(model_name: str) -> str:
    """Say where a model's configuration stands, for messages: its file, else its name."""
    scheme, rest = parse_model_name(model_name)
    if scheme == "local-dir":
        return printable(Path(rest) / HF_CONFIG_NAME)
    return printable(_ADDED_FROM.get(rest, model_name))


def _natural_key(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts if part]


def _read_json(path: Path) -> object:
    try:
        return parse_config(read_plain(path, MAX_CONFIG_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error, 200)
        raise ConfigError(f"{printable(path)}: cannot be read as JSON: {reason}.") from error


def parse_config(text: str) -> object:
    """Parse a configuration's JSON, which may come from anywhere.

    Raises:
        ValueError: it is no JSON, larger or deeper than any configuration, holds a key twice or a number that is none.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"it has more than {MAX_CONFIG_BYTES >> 20} MiB, and a configuration has a few KiB")
    try:
        return json.loads(text, object_pairs_hook=_refuse_twins, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested deeper than any configuration") from None


def _refuse_twins(pairs: list[tuple[str, object]]) -> JsonObject:
    read = dict(pairs)
    if len(read) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return read


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _read_configs(path: Path) -> dict[str, tuple[Path, JsonObject]]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    read = {file.stem: (file, _read_json(file)) for file in files}
    return {name: (file, cfg) for name, (file, cfg) in read.items() if isinstance(cfg, dict) and _is_model(cfg)}


def _is_model(cfg: JsonObject) -> bool:
    # A model of another family is kept, so that building it is refused by the family's name.
    return all(key in cfg for key in _REQUIRED_KEYS) or "family" in cfg or is_of_unknown_family(cfg)


@cache
def model_registry() -> dict[str, JsonObject]:
    """Return the registry itself, read from the package's folder at first use."""
    return {name: cfg for name, (_, cfg) in _read_configs(_CONFIG_FOLDER).items()}


def list_models() -> list[str]:
    """List the model names, digits sorted as numbers and letters whatever their case."""
    return sorted(model_registry(), key=_natural_key)


def add_model_config(path: str | Path) -> None:
    """Add a model's JSON file, or every one in a folder, to the registry under its file name without the suffix.

    Raises:
        ConfigError: there is no such path, a file is not JSON, or none holds embed_dim, vision_cfg and text_cfg.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder of model configurations.")
    found = _read_configs(path)
    if not found:
        raise ConfigError(f"{path}: holds no model configuration; one needs {', '.join(_REQUIRED_KEYS)}, or family.")
    for name, (file, cfg) in found.items():
        model_registry()[name] = cfg
        _ADDED_FROM[name] = file


def read_folder_config(folder: str | Path) -> JsonObject:
    """Read ``open_clip_config.json`` of a model folder: ``model_cfg`` and perhaps ``preprocess_cfg``.

    Raises:
        ModelFolderError: there is no such folder or no such file in it; it is a FileNotFoundError, too.
        ConfigError: it is not JSON or has no ``model_cfg``.
    """
    path = Path(folder) / HF_CONFIG_NAME
    try:
        is_file, is_folder = path.is_file(), path.parent.is_dir()
    except (OSError, ValueError) as error:
        # A name that is too long or holds a zero byte, or a folder that may not be entered.
        raise ModelFolderError(f"local-dir:{printable(folder, 200)}: cannot be looked at: {error}.") from error
    if is_file:
        return _read_model_file(path)
    if not is_folder:
        raise ModelFolderError(
            f"local-dir:{printable(folder, 200)}: there is no such folder. It has to hold {HF_CONFIG_NAME} and weights."
        )
    is_transformers = path.with_name("config.json").is_file()
    raise ModelFolderError(
        f"{printable(path)}: there is no such file; a local-dir: model needs it beside its weights."
        + (" The config.json there is not of this layout." if is_transformers else "")
        + " A weights file, one of transformers' CLIPModel too, is loaded by --pretrained FILE with the --model it is "
        "of; save_for_hf of open_clip.push_to_hf_hub writes a model folder."
    )


def read_hub_config(model_id: str, cache_dir: str | None = None) -> JsonObject:
    """Read ``open_clip_config.json`` of a hub repository (``org/repo``): ``model_cfg`` and perhaps ``preprocess_cfg``.

    Raises:
        CheckpointError: the hub cannot be reached, or there is no such repository or file.
        ConfigError: it is not JSON or has no ``model_cfg``.
    """
    return _read_model_file(Path(download_pretrained_from_hf(model_id, HF_CONFIG_NAME, cache_dir=cache_dir)))


def _read_model_file(path: Path) -> JsonObject:
    config = _read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise ConfigError(f"{printable(path)}: has no 'model_cfg'.")
    return config


def get_model_config(model_name: str) -> JsonObject | None:
    """Return a copy of a model's configuration, or None when the name is not known.

    Raises:
        ConfigError: a ``local-dir:`` folder or a hub repository has a broken configuration.
        CheckpointError: a hub repository cannot be reached or has no configuration.
    """
    scheme, rest = parse_model_name(model_name)
    if scheme == "hf-hub":
        hub_cfg: JsonObject = read_hub_config(rest)["model_cfg"]
        return hub_cfg
    if scheme == "local-dir":
        cfg: JsonObject = read_folder_config(rest)["model_cfg"]
        return cfg
    return deepcopy(model_registry().get(rest))


def unknown_model(model_name: str) -> ModelNotFound:
    """Make the error for a name that is not in the registry."""
    known, shown = list_models(), printable(model_name, 200)
    return ModelNotFound(
        f"no model is called '{shown}'.{suggest_nearest(parse_model_name(model_name)[1][:200], known)} "
        f"open_clip.list_models() gives all {len(known)}; add_model_config(path) adds your own."
    )
