"""Choosing the tokenizer that fits a model. Tokenising is ``open_clip.tokenizer``'s job."""

import logging
from typing import Any

from open_clip.errors import ConfigError
from open_clip.factory.names import get_model_config, parse_model_name
from open_clip.tokenizer import SimpleTokenizer

_logger = logging.getLogger(__name__)

DEFAULT_CONTEXT_LENGTH = 77


def get_tokenizer(
    model_name: str = "", context_length: int | None = None, cache_dir: str | None = None, **kwargs: Any
) -> SimpleTokenizer:
    """Make the tokenizer of a model.

    Args:
        model_name: as in ``create_model``; nothing or an unknown name gives CLIP's own tokenizer.
        context_length: tokens per text; the model's own when left out.
        cache_dir: for tokenizers that are downloaded; the native one is not.
        kwargs: replace entries of the configuration's ``tokenizer_kwargs``.

    Raises:
        ConfigError: the model needs a tokenizer that this version does not have.
    """
    config = get_model_config(model_name) if model_name else {}
    if config is None:
        _logger.warning("No model is called %r; its tokenizer is taken to be CLIP's own.", model_name)
    text_cfg: dict[str, Any] = (config or {}).get("text_cfg", {})
    if text_cfg.get("hf_tokenizer_name"):
        raise ConfigError(
            f"{model_name} needs the Hugging Face tokenizer {text_cfg['hf_tokenizer_name']!r}, "
            "which is not supported yet."
        )
    if "siglip" in parse_model_name(model_name)[1].lower():
        raise ConfigError(f"{model_name} needs SigLIP's sentencepiece tokenizer, which is not supported yet.")
    options = (text_cfg.get("tokenizer_kwargs") or {}) | kwargs
    length = context_length or text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
    return SimpleTokenizer(context_length=length, **options)
