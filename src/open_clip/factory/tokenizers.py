"""Choosing the tokenizer that fits a model. Tokenising is ``open_clip.tokenizer``'s job."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.names import get_model_config, parse_model_name, place_of, read_folder_config, read_hub_config
from open_clip.model.schema import check_text_cfg
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SigLipTokenizer, SimpleTokenizer
from open_clip.tokenizer.options import HF_OPTIONS, OWN_OPTIONS, check_config_options

_logger = logging.getLogger(__name__)

Tokenizer = SimpleTokenizer | HFTokenizer | SigLipTokenizer


def get_tokenizer(
    model_name: str = "", context_length: int | None = None, cache_dir: str | None = None, **kwargs: Any
) -> Tokenizer:
    """Make the tokenizer of a model.

    Args:
        model_name: as in ``create_model``; nothing or an unknown name gives CLIP's own tokenizer, a hub repository
            without a model configuration the tokenizer it holds.
        context_length: tokens per text; the model's own when left out.
        cache_dir: where downloads are kept.
        kwargs: the tokenizer's options; they replace entries of the configuration's ``tokenizer_kwargs``.

    Raises:
        CheckpointError: a vocabulary cannot be downloaded.
        ConfigError: the tokenizer or a ``local-dir:`` model's configuration cannot be read, or an option is wrong.
        ModelFolderError: a ``local-dir:`` folder or its configuration is missing.
        MissingDependency: the tokenizer's package is not installed.
    """
    return choose_tokenizer(model_name, context_length, cache_dir, **kwargs)()


def choose_tokenizer(
    model_name: str = "", context_length: int | None = None, cache_dir: str | None = None, **kwargs: Any
) -> "partial[SimpleTokenizer] | partial[HFTokenizer] | partial[SigLipTokenizer]":
    """Say which class makes a model's tokenizer, and with which arguments, before anything of it is read.

    A configuration that names a Hugging Face tokenizer gets that one (a ``local-dir:`` model the one in its folder), a
    name of ours with ``siglip`` in it SigLIP's, any other CLIP's own. Arguments as in ``get_tokenizer``.

    Source: open_clip.get_tokenizer (3.3.0): the order of the choices.

    Raises:
        ConfigError: a ``local-dir:`` model's configuration cannot be read, or sets an option that it may not.
        ModelFolderError: a ``local-dir:`` folder or its configuration is missing.
    """
    scheme, rest = parse_model_name(model_name)
    config = _find_config(scheme, rest, cache_dir) if rest else {}
    if config is None:
        _logger.warning("No model is called %r; its tokenizer is taken to be CLIP's own.", model_name)
        return partial(SimpleTokenizer, context_length=context_length or DEFAULT_CONTEXT_LENGTH, **kwargs)
    # A tokenizer of another family would give ids that are words, and other ones.
    check_text_cfg(config, place_of(model_name))
    text_cfg: dict[str, Any] = config.get("text_cfg") or {}
    length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH) if context_length is None else context_length
    hf_name = text_cfg.get("hf_tokenizer_name")
    options = check_config_options(text_cfg.get("tokenizer_kwargs"), HF_OPTIONS if hf_name else OWN_OPTIONS) | kwargs
    if hf_name:
        return partial(
            HFTokenizer,
            Path(rest) if scheme == "local-dir" else hf_name,
            context_length=length,
            cache_dir=cache_dir,
            tokenizer_mode=text_cfg.get("tokenizer_mode"),
            **options,
        )
    if scheme is None and "siglip" in rest.lower():
        return partial(SigLipTokenizer, _siglip_vocabulary(rest.lower()), context_length=length, cache_dir=cache_dir)
    return partial(SimpleTokenizer, context_length=length, **options)


def _find_config(scheme: str | None, rest: str, cache_dir: str | None) -> dict[str, Any] | None:
    """Return a model's configuration; None when a name of ours is not known."""
    if scheme is None:
        return get_model_config(rest)
    if scheme == "local-dir":
        folder_cfg: dict[str, Any] = read_folder_config(rest)["model_cfg"]
        return folder_cfg
    try:
        hub_cfg: dict[str, Any] = read_hub_config(rest, cache_dir)["model_cfg"]
        return hub_cfg
    except (CheckpointError, ConfigError) as error:
        _logger.warning("%s Its tokenizer is taken from the repository %s itself.", error, rest)
        return {"text_cfg": {"hf_tokenizer_name": rest}}


def _siglip_vocabulary(name: str) -> str:
    if "siglip2" in name:
        return "gemma"
    return "mc4" if "i18n" in name else "c4-en"
