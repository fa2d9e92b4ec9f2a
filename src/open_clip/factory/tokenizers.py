"""Finding the configuration by which a family chooses a tokenizer. Tokenising is ``open_clip.tokenizer``'s job."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from open_clip.checked_json import JsonObject
from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.names import get_model_config, parse_model_name, place_of, read_folder_config, read_hub_config
from open_clip.families import find_family
from open_clip.families.base import TokenizerMaker, TokenizerRequest
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SigLipTokenizer, SimpleTokenizer

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
        ConfigError: the tokenizer or a ``local-dir:`` model's configuration cannot be read, an option is wrong, or the
            model takes no texts.
        ModelFolderError: a ``local-dir:`` folder or its configuration is missing.
        MissingDependency: the tokenizer's package is not installed.
    """
    tokenizer: Tokenizer = choose_tokenizer(model_name, context_length, cache_dir, **kwargs)()
    return tokenizer


def choose_tokenizer(
    model_name: str = "", context_length: int | None = None, cache_dir: str | None = None, **kwargs: Any
) -> TokenizerMaker:
    """Say what makes a model's tokenizer, before anything of it is read: its family's choice.

    Arguments as in ``get_tokenizer``.

    Returns:
        What makes it; of the families here a ``partial`` that shows class and arguments.

    Raises:
        ConfigError: a ``local-dir:`` model's configuration cannot be read, or sets an option that it may not.
        ModelFolderError: a ``local-dir:`` folder or its configuration is missing.
    """
    scheme, rest = parse_model_name(model_name)
    config = _find_config(scheme, rest, cache_dir) if rest else {}
    if config is None:
        _logger.warning("No model is called %r; its tokenizer is taken to be CLIP's own.", model_name)
        return partial(SimpleTokenizer, context_length=context_length or DEFAULT_CONTEXT_LENGTH, **kwargs)
    folder = Path(rest) if scheme == "local-dir" else None
    request = TokenizerRequest(rest, folder, scheme is None, context_length, cache_dir, kwargs)
    family = find_family(config)
    # A tokenizer of another family would give ids that are words, and other ones.
    try:
        family.check_texts(config)
    except ConfigError as error:
        raise ConfigError(f"{place_of(model_name)}: {error}") from None
    return family.choose_tokenizer(config, request)


def _find_config(scheme: str | None, rest: str, cache_dir: str | None) -> JsonObject | None:
    """Return a model's configuration; None when a name of ours is not known."""
    if scheme is None:
        return get_model_config(rest)
    if scheme == "local-dir":
        folder_cfg: JsonObject = read_folder_config(rest)["model_cfg"]
        return folder_cfg
    try:
        hub_cfg: JsonObject = read_hub_config(rest, cache_dir)["model_cfg"]
        return hub_cfg
    except (CheckpointError, ConfigError) as error:
        _logger.warning("%s Its tokenizer is taken from the repository %s itself.", error, rest)
        return {"text_cfg": {"hf_tokenizer_name": rest}}
