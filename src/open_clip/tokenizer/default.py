"""The tokenizer that the functions `tokenize` and `decode` share, built when first needed.

Holds no tokenizing of its own.
"""

from collections.abc import Iterable
from functools import lru_cache

from torch import Tensor

from open_clip.tokenizer.bpe import DEFAULT_CONTEXT_LENGTH, SimpleTokenizer


@lru_cache
def default_tokenizer() -> SimpleTokenizer:
    """Return the tokenizer that `tokenize` and `decode` share, built at the first call."""
    return SimpleTokenizer()


def tokenize(texts: str | Iterable[str], context_length: int = DEFAULT_CONTEXT_LENGTH) -> Tensor:
    """Tokenize captions with CLIP's vocabulary to int64 [n, context_length]."""
    return default_tokenizer()(texts, context_length=context_length)


def decode(output_ids: Tensor) -> str:
    """Return the text of ids [L] on any device."""
    return default_tokenizer().decode(output_ids.tolist())
