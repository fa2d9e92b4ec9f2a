"""Turn captions into token ids.

Holds no logic: `bpe` is CLIP's own tokenizer, `hf` and `siglip` are those of other models, `cleaning` prepares text,
`shorten` fits long captions.
Importing this package builds no tokenizer; the first `tokenize` or `decode` does.
"""

from open_clip.tokenizer.bpe import DEFAULT_CONTEXT_LENGTH, SimpleTokenizer
from open_clip.tokenizer.cleaning import basic_clean, canonicalize_text, get_clean_fn, whitespace_clean
from open_clip.tokenizer.default import decode, default_tokenizer, tokenize
from open_clip.tokenizer.hf import HFTokenizer
from open_clip.tokenizer.merges import get_pairs
from open_clip.tokenizer.shorten import (
    get_reduction_mask_fn,
    random_mask_tokenize,
    simple_mask_tokenize,
    syntax_mask_tokenize,
)
from open_clip.tokenizer.siglip import SigLipTokenizer
from open_clip.tokenizer.vocabulary import bytes_to_unicode, default_bpe

__all__ = [
    "DEFAULT_CONTEXT_LENGTH",
    "HFTokenizer",
    "SigLipTokenizer",
    "SimpleTokenizer",
    "basic_clean",
    "bytes_to_unicode",
    "canonicalize_text",
    "decode",
    "default_bpe",
    "default_tokenizer",
    "get_clean_fn",
    "get_pairs",
    "get_reduction_mask_fn",
    "random_mask_tokenize",
    "simple_mask_tokenize",
    "syntax_mask_tokenize",
    "tokenize",
    "whitespace_clean",
]


def __getattr__(name: str) -> SimpleTokenizer:
    # Programs written for open_clip reach for the shared tokenizer by this name.
    if name == "_tokenizer":
        return default_tokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
