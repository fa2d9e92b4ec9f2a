"""What every tokenizer asks of its call: sound captions and a length that can hold one. Makes no ids."""

from collections.abc import Iterable, Sequence

from open_clip.errors import ConfigError, DataError, printable
from open_clip.tokenizer.cleaning import CleanFn


def to_captions(texts: str | Iterable[str]) -> list[str]:
    """Return the captions of a call as a list; a single string is one caption."""
    return [texts] if isinstance(texts, str) else list(texts)


def choose_length(asked: int | None, own: int | None) -> int:
    """Return the row length of a call: what was asked for, else the tokenizer's own.

    Raises:
        ConfigError: neither is set, or it is below 1.
    """
    length = asked or own
    if not length or length < 1:
        raise ConfigError(f"Context length {length} cannot hold a caption: pass context_length=77, as CLIP has.")
    return length


def refuse_non_strings(captions: Sequence[object]) -> None:
    """Name the first caption that is not a string.

    Raises:
        DataError: there is one.
    """
    for place, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise DataError(
                f"Caption {place} of {len(captions)} is {printable(repr(caption), 80)}, a {type(caption).__name__},"
                f" not a string: leave such rows out or turn them into text first."
            ) from None


def clean_captions(captions: list[str], clean_fn: CleanFn) -> list[str]:
    """Clean the captions of a call.

    Raises:
        DataError: one cannot be cleaned; the text names it.
    """
    cleaned = []
    for place, caption in enumerate(captions):
        try:
            cleaned.append(clean_fn(caption))
        except DataError as error:
            raise DataError(f"Caption {place} of {len(captions)} ({printable(caption, 60)}) {error}") from None
    return cleaned
