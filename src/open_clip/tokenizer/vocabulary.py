"""The vocabulary file that CLIP's tokenizer is built from, and the symbols it is written in.

Merges no words: that is in `merges`.
"""

import gzip
from functools import lru_cache
from pathlib import Path

from open_clip.errors import DataError

_NUM_MERGES = 49152 - 256 - 2


@lru_cache
def default_bpe() -> str:
    """Return the path of the vocabulary that ships with the package."""
    return str(Path(__file__).resolve().parent.parent / "bpe_simple_vocab_16e6.txt.gz")


@lru_cache
def bytes_to_unicode() -> dict[int, str]:
    """Map each byte to a printable character, so that merges can be kept as text.

    Printable Latin-1 bytes stand for themselves and the others for U+0100 onwards; the order is the vocabulary's.

    Source: `bytes_to_unicode` of GPT-2 and OpenAI CLIP.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    characters = {byte: chr(byte) for byte in printable}
    characters.update({byte: chr(256 + place) for place, byte in enumerate(others)})
    return characters


def read_merges(bpe_path: str | Path) -> list[tuple[str, str]]:
    """Read the merges in rank order: line 1 of the file is a header, and what follows the last merge used is cut.

    Raises:
        DataError: The file is not a CLIP vocabulary.
    """
    try:
        with gzip.open(bpe_path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")[1 : _NUM_MERGES + 1]
        merges = [(left, right) for left, right in (line.split() for line in lines)]
    except (gzip.BadGzipFile, EOFError, ValueError) as error:
        raise DataError(
            f"{bpe_path} is not a CLIP vocabulary (gzipped text, a header, then two symbols a line): {error}."
            f" Leave bpe_path out to use the one that ships with the package."
        ) from error
    return merges
