"""Prepare caption text before it is tokenized: repair, unescape, fold spaces, lower.

Knows no vocabulary and no token ids.
"""

import html
import re
import string
from collections.abc import Callable, Mapping
from typing import Final

from open_clip.errors import ConfigError, DataError, suggest_nearest
from open_clip.tokenizer.repair import MAX_PASSES, repair_text

CleanFn = Callable[[str], str]

# Python converts no numbers of more than 4,300 digits; beyond seven none is a character.
_LONG_NUMBER: Final = re.compile(r"&#([0-9]{100,})")
_DELETE_PUNCTUATION: Mapping[int, int | None] = str.maketrans("", "", string.punctuation)


def basic_clean(text: str) -> str:
    """Repair mojibake with ftfy, unescape HTML twice and strip the ends.

    Raises:
        DataError: HTML entities are nested so deep that it would take seconds to hours.

    Source: `basic_clean` of OpenAI CLIP and open_clip_torch 3.3.0.
    """
    text = repair_text(text)
    return (_unescape(_unescape(text)) if "&" in text else text).strip()


def why_not_cleanable(text: str) -> str | None:
    """Say in a few words why a caption cannot be cleaned; None when it can. Costs nothing for ordinary captions."""
    # Each level of nesting takes three characters or more.
    if len(text) <= 2 * MAX_PASSES or (text.isascii() and "&" not in text):
        return None
    try:
        repair_text(text)
    except DataError as error:
        return str(error)
    return None


def _unescape(text: str) -> str:
    """Do as `html.unescape` does, with numbers of any length."""
    if "&#" in text:
        text = _LONG_NUMBER.sub(lambda found: f"&#{found[1].lstrip('0')[:8] or '0'}", text)
    return html.unescape(text)


def whitespace_clean(text: str) -> str:
    """Replace every run of white space by one space and strip the ends."""
    return " ".join(text.split())


def canonicalize_text(
    text: str,
    *,
    keep_punctuation_exact_string: str | None = None,
    trans_punctuation: Mapping[int, int | None] = _DELETE_PUNCTUATION,
) -> str:
    """Lower the text, turn underscores into spaces and delete ASCII punctuation, as SigLIP prepares captions.

    Args:
        text: What to prepare.
        keep_punctuation_exact_string: A string that survives wherever it occurs whole, such as `{}` in a template.
        trans_punctuation: What to delete or replace, in the form `str.translate` takes.

    Source: `canonicalize_text` of big_vision (`prompt_engineering.py`) and open_clip_torch 3.3.0.
    """
    text = text.replace("_", " ")
    kept = keep_punctuation_exact_string
    pieces = text.split(kept) if kept else [text]
    return whitespace_clean((kept or "").join(piece.translate(trans_punctuation) for piece in pieces).lower())


def clean_lower(text: str) -> str:
    """Apply `basic_clean`, fold white space and lower: what CLIP was trained with."""
    return whitespace_clean(basic_clean(text)).lower()


def clean_whitespace(text: str) -> str:
    """Apply `basic_clean` and fold white space, keeping capitals."""
    return whitespace_clean(basic_clean(text))


def clean_canonicalize(text: str) -> str:
    """Apply `basic_clean` and `canonicalize_text`."""
    return canonicalize_text(basic_clean(text))


_CLEAN_FNS: dict[str, CleanFn] = {
    "canonicalize": clean_canonicalize,
    "lower": clean_lower,
    "whitespace": clean_whitespace,
}


def get_clean_fn(type: str) -> CleanFn:
    """Return the cleaning function of a mode: `lower`, `whitespace` or `canonicalize`.

    Raises:
        ConfigError: The mode is not known.
    """
    if not isinstance(type, str) or type not in _CLEAN_FNS:
        raise ConfigError(
            f"Text cleaning mode {type!r} is not known.{suggest_nearest(type, _CLEAN_FNS)}"
            f" Choose one of {', '.join(_CLEAN_FNS)}."
        )
    return _CLEAN_FNS[type]
